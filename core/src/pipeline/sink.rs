//! Writing to a medium beside the work: buffers go to a thread of their own through a short queue and come back empty.
//!
//! A channel's worker compresses while its sink waits for the medium. At most [`DEPTH`] full buffers wait, so memory is
//! bounded however slow the medium is.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::{Error, ErrorKind, Result};
use crate::media::{Medium, ObjectInfo, ObjectName, ObjectWriter};

/// Full buffers that may wait for the medium.
pub const DEPTH: usize = 4;

enum Order {
    Create(ObjectName),
    Write(Vec<u8>),
    Finish,
}

/// One stream of objects to a medium, written one after the other. Dropping it abandons the object begun last.
pub struct Sink {
    orders: Option<Sender<Order>>,
    empty: Receiver<Vec<u8>>,
    done: Receiver<ObjectInfo>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Sink {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(name: &str, medium: Arc<dyn Medium>) -> Result<Self> {
        let (orders, todo) = bounded(DEPTH);
        let (give_back, empty) = bounded(DEPTH + 2);
        let (finished, done) = bounded(1);
        let thread = thread::Builder::new()
            .name(format!("sp-{name}"))
            .spawn(move || serve(&*medium, &todo, &give_back, &finished))
            .map_err(|error| Error::io("a writer thread", error))?;
        Ok(Sink { orders: Some(orders), empty, done, thread: Some(thread) })
    }

    /// Begins an object.
    ///
    /// # Errors
    /// Whatever the medium failed with so far.
    pub fn create(&mut self, name: ObjectName) -> Result<()> {
        self.order(Order::Create(name))
    }

    /// Appends a buffer and gives an empty one in exchange.
    ///
    /// # Errors
    /// Whatever the medium failed with so far.
    pub fn write(&mut self, full: Vec<u8>) -> Result<Vec<u8>> {
        self.order(Order::Write(full))?;
        Ok(self.empty.try_recv().unwrap_or_default())
    }

    /// Waits until the object is durable and visible.
    ///
    /// # Errors
    /// Whatever the medium failed with.
    pub fn finish(&mut self) -> Result<ObjectInfo> {
        self.order(Order::Finish)?;
        self.done.recv().or_else(|_| self.failure())
    }

    fn order(&mut self, order: Order) -> Result<()> {
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok());
        if sent { Ok(()) } else { self.failure() }
    }

    /// The thread has ended early: its error is the news.
    fn failure<T>(&mut self) -> Result<T> {
        self.orders = None;
        let gone = || Error::new(ErrorKind::Internal, "the writer thread is gone");
        let ended = self.thread.take().ok_or_else(gone)?;
        match ended.join() {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) => Err(gone()),
            Err(_) => Err(Error::new(ErrorKind::Internal, "a writer thread panicked")),
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // An error that nobody asked for by `finish` belongs to an object that is abandoned anyway.
            drop(thread.join());
        }
    }
}

fn serve(
    medium: &dyn Medium,
    todo: &Receiver<Order>,
    give_back: &Sender<Vec<u8>>,
    finished: &Sender<ObjectInfo>,
) -> Result<()> {
    let out_of_order = || Error::new(ErrorKind::Internal, "objects must be created, written and finished in order");
    let mut current: Option<Box<dyn ObjectWriter>> = None;
    for order in todo {
        match order {
            Order::Create(name) if current.is_none() => current = Some(medium.create(&name)?),
            Order::Create(_) => return Err(out_of_order()),
            Order::Write(mut buffer) => {
                current.as_mut().ok_or_else(out_of_order)?.write(&buffer)?;
                buffer.clear();
                // When as many empty buffers wait as are ever needed, this one is not.
                drop(give_back.try_send(buffer));
            }
            Order::Finish => {
                let info = current.take().ok_or_else(out_of_order)?.finish()?;
                if finished.send(info).is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}
