//! Several workers on one job: the first error stops all and is the one reported.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};

/// What a worker looks at to know whether it should go on.
#[derive(Debug)]
pub struct Stop<'a> {
    cancel: &'a Cancel,
    failed: AtomicBool,
}

impl<'a> Stop<'a> {
    /// Nothing has failed yet.
    #[must_use]
    pub fn new(cancel: &'a Cancel) -> Self {
        Stop { cancel, failed: AtomicBool::new(false) }
    }

    /// Whether a worker should end at once; it may return whatever it has.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }

    /// Makes every worker end.
    pub fn set(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }
}

/// Runs `worker` on `count` threads, each with its number from 0, and gives back what they return in that order.
///
/// # Errors
/// The first error of any worker; [`ErrorKind::Cancelled`] when the caller cancelled and no worker failed before; a
/// panic of a worker becomes [`ErrorKind::Internal`].
pub fn workers<T: Send>(
    name: &str,
    count: usize,
    stop: &Stop<'_>,
    worker: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let first_error: Mutex<Option<Error>> = Mutex::new(None);
    let guarded = |number: usize| {
        let result = worker(number);
        result.map_err(|error| note(&first_error, stop, error)).ok()
    };
    let results = thread::scope(|scope| {
        let mut handles = Vec::with_capacity(count);
        for number in 0..count {
            let builder = thread::Builder::new().name(format!("sp-{name}-{number}"));
            let guarded = &guarded;
            match builder.spawn_scoped(scope, move || guarded(number)) {
                Ok(handle) => handles.push(handle),
                Err(error) => note(&first_error, stop, Error::io("a worker thread", error)),
            }
        }
        let joined = handles.into_iter().map(|handle| match handle.join() {
            Ok(result) => result,
            Err(_) => {
                note(&first_error, stop, Error::new(ErrorKind::Internal, "a worker thread panicked"));
                None
            }
        });
        joined.collect::<Vec<_>>()
    });
    let error = first_error.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(error) = error {
        return Err(error);
    }
    stop.cancel.check()?;
    results
        .into_iter()
        .collect::<Option<Vec<T>>>()
        .ok_or_else(|| Error::new(ErrorKind::Internal, "a worker gave nothing"))
}

fn note(first: &Mutex<Option<Error>>, stop: &Stop<'_>, error: Error) {
    stop.set();
    first.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_numbers() {
        let cancel = Cancel::new();
        let stop = Stop::new(&cancel);
        assert_eq!(workers("t", 4, &stop, |n| Ok(n * 2)).unwrap(), [0, 2, 4, 6]);
    }

    #[test]
    fn first_error_stops_the_others() {
        let cancel = Cancel::new();
        let stop = Stop::new(&cancel);
        let result: Result<Vec<()>> = workers("t", 3, &stop, |n| {
            if n == 1 {
                return Err(Error::new(ErrorKind::Io, "first"));
            }
            while !stop.is_set() {
                thread::yield_now();
            }
            Ok(())
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Io);
    }

    #[test]
    fn a_panic_and_a_wish_to_stop_are_errors() {
        let cancel = Cancel::new();
        let stop = Stop::new(&cancel);
        let result: Result<Vec<()>> = workers("t", 2, &stop, |_| panic!("deliberate"));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Internal);
        cancel.cancel();
        let stop = Stop::new(&cancel);
        assert_eq!(workers("t", 2, &stop, |_| Ok(())).unwrap_err().kind(), ErrorKind::Cancelled);
    }
}
