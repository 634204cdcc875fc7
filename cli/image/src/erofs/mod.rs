//! EROFS images, written and read.
