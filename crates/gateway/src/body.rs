//! Bodies on their way through. A piece that one side gives is the piece that the other side takes.

use crate::{activity::Flight, pool::Lease};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};
use tokio::sync::oneshot;

type Polled = Poll<Option<Result<Frame<Bytes>, hyper::Error>>>;

/// A body for the visitor.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The gateway's own.
    Own(Full<Bytes>),
    /// An application's.
    Relayed(Box<Relayed>),
}

impl Reply {
    pub(crate) fn empty() -> Self {
        Self::Own(Full::default())
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        match self.get_mut() {
            Self::Own(body) => Pin::new(body)
                .poll_frame(context)
                .map_err(|never: Infallible| match never {}),
            Self::Relayed(body) => body.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Relayed(relayed) => relayed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Relayed(relayed) => relayed.body.size_hint(),
        }
    }
}

/// An application's body, together with what must live as long as it does.
#[derive(Debug)]
pub(crate) struct Relayed {
    body: Incoming,
    flight: Flight,
    lease: Option<Lease>,
    complete: bool,
}

impl Relayed {
    pub(crate) fn new(body: Incoming, flight: Flight, lease: Lease) -> Self {
        Self {
            body,
            flight,
            lease: Some(lease),
            complete: false,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Polled {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(_)) => self.flight.touch(),
            Some(Err(_)) => {}
            None => self.complete = true,
        }
        Poll::Ready(frame)
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        // A body that was left in the middle leaves a connection on which no response can follow.
        if (self.complete || self.body.is_end_stream())
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }
}

/// Counts the pieces of a body that have gone up, so that an upload is not taken for silence.
pub(crate) type Progress = Arc<AtomicU64>;

/// A visitor's body for the application.
///
/// When its connection dies before the first piece was taken, the body comes back, so that it can go over another one.
#[derive(Debug)]
pub(crate) struct Outgoing {
    body: Option<Incoming>,
    back: Option<oneshot::Sender<Incoming>>,
    progress: Progress,
}

impl Outgoing {
    /// A body, and the place to which it comes back.
    pub(crate) fn new(body: Option<Incoming>, progress: Progress) -> (Self, oneshot::Receiver<Incoming>) {
        let (sender, receiver) = oneshot::channel();
        (
            Self {
                body,
                back: Some(sender),
                progress,
            },
            receiver,
        )
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        let Some(body) = self.body.as_mut() else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(context));
        self.back = None;
        self.progress.fetch_add(1, Relaxed);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let (Some(back), Some(body)) = (self.back.take(), self.body.take()) {
            // Nobody waits for it when the request has been answered.
            drop(back.send(body));
        }
    }
}
