//! Names of images, as users and registries write them.

#![no_main]

use husk_fuzz::{MEBIBYTE, bounded};
use husk_image::{Digest, Platform, Reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    bounded(MEBIBYTE, || {
        if let Ok(reference) = text.parse::<Reference>() {
            // Its own spellings all mean the same.
            for spelling in [reference.to_string(), reference.familiar()] {
                let again: Reference = spelling.parse().expect("its own spelling");
                assert_eq!(again, reference, "{spelling}");
            }
            assert!(reference.tag().is_some() || reference.digest().is_some());
            // These become parts of URLs and of messages.
            let parts = [reference.registry(), reference.repository()];
            for part in parts.into_iter().chain(reference.tag()) {
                assert!(part.bytes().all(|byte| byte.is_ascii_graphic()), "{part:?}");
                assert!(!part.split('/').any(|step| matches!(step, "" | "." | "..")), "{part:?}");
            }
        }
        if let Ok(digest) = text.parse::<Digest>() {
            assert_eq!(digest.to_string().parse(), Ok(digest));
        }
        if let Ok(platform) = text.parse::<Platform>() {
            assert_eq!(platform.to_string().parse(), Ok(platform));
        }
    });
});
