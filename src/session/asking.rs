//! Questions: one exchange for each, whose answers are decoded as they arrive.

use super::{Session, trace};
use crate::error::{Cause, Error};
use crate::protocol::{Answer, AnswerError, DecodeError, Exchange, Request, answer};
use crate::uapi::Errno;

/// The error number of a missing object, and also of a missing family.
pub(super) const NOT_THERE: Errno = Errno::NOENT;

impl Session {
    /// Asks the kernel for the number of the family, so that connecting to a kernel without IPVS is
    /// an error.
    pub(crate) async fn resolve_family(&mut self) -> Result<(), Error> {
        let mut family = None;
        let mut each = |answer: Answer<'_>| {
            family = Some(answer::family(&answer)?);
            Ok(())
        };
        let outcome = self.exchange_once(Request::Family, &mut each).await;
        if outcome.is_ok() && family.is_none() {
            return Err(Error::new(Request::Family, Cause::NoAnswer));
        }
        self.encoder.set_family(family);
        self.module = family.or(self.module);
        outcome.map_err(|cause| {
            let missing = cause.errno() == Some(NOT_THERE);
            Error::new(Request::Family, if missing { Cause::NoIpvs } else { cause })
        })
    }

    /// An exchange whose answer is one message.
    pub(super) async fn ask<T: Send>(
        &mut self,
        request: Request,
        decode: impl FnMut(&Answer<'_>) -> Result<T, DecodeError> + Send,
    ) -> Result<T, Error> {
        let answers = self.list(request, decode).await?;
        answers.into_iter().next_back().ok_or_else(|| Error::new(request, Cause::NoAnswer))
    }

    /// An exchange whose answer is any number of messages.
    pub(super) async fn list<T: Send>(
        &mut self,
        request: Request,
        mut decode: impl FnMut(&Answer<'_>) -> Result<T, DecodeError> + Send,
    ) -> Result<Vec<T>, Error> {
        let mut answers = Vec::new();
        let mut was_cut = false;
        loop {
            let outcome = self.exchange(request, |answer| {
                trace::received(&answer);
                if answers.len() == answers.capacity() {
                    answers.reserve(1 + answer.more);
                }
                answers.push(decode(&answer)?);
                Ok(())
            });
            match outcome.await {
                // A part was cut: the listing is asked for again, and the buffer is longer by now.
                Err(error) if !was_cut && matches!(error.cause(), Cause::Truncated(_)) => {
                    was_cut = true;
                    answers.clear();
                }
                outcome => return outcome.map(|()| answers),
            }
        }
    }

    /// Sends a request and takes its answers, until the kernel ends the exchange.
    async fn exchange(
        &mut self,
        request: Request,
        mut each: impl FnMut(Answer<'_>) -> Result<(), DecodeError> + Send,
    ) -> Result<(), Error> {
        let conversation = self.converse(request, &mut each);
        trace::in_span(&request, conversation).await.inspect_err(trace::failed)
    }

    async fn converse(
        &mut self,
        request: Request,
        each: &mut (impl FnMut(Answer<'_>) -> Result<(), DecodeError> + Send),
    ) -> Result<(), Error> {
        if !self.is_prepared() {
            self.prepare(request).await?;
        }
        let mut outcome = self.exchange_once(request, each).await;
        if let Err(cause) = &outcome
            && cause.errno() == Some(NOT_THERE)
            && self.family_has_changed().await?
        {
            outcome = self.exchange_once(request, each).await;
        }
        outcome.map_err(|cause| Error::new(request, cause))
    }

    /// Whether the socket works and the family's number is known. Nearly always both are true, and
    /// nothing has to be awaited.
    pub(super) fn is_prepared(&self) -> bool {
        !self.socket.is_spent() && self.encoder.family().is_some()
    }

    /// Opens the socket anew and asks for the family's number, each only if needed.
    pub(super) async fn prepare(&mut self, request: Request) -> Result<(), Error> {
        self.socket.replace_spent().map_err(|cause| Error::new(request, cause))?;
        if self.encoder.family().is_none() {
            self.resolve_family().await?;
        }
        Ok(())
    }

    /// Asks for the family's number anew; tells whether the number has changed, as it does when the
    /// module is unloaded and loaded again.
    pub(super) async fn family_has_changed(&mut self) -> Result<bool, Error> {
        let before = self.encoder.family();
        self.encoder.set_family(None);
        self.resolve_family().await?;
        Ok(self.encoder.family() != before)
    }

    async fn exchange_once(
        &mut self,
        request: Request,
        each: &mut (impl FnMut(Answer<'_>) -> Result<(), DecodeError> + Send),
    ) -> Result<(), Cause> {
        if request.is_dump() {
            self.leave_unfinished_dump().await?;
            self.socket.return_to_short_parts();
        }
        let exchange = self.encoder.question(&request);
        trace::sent(&request);
        self.socket.send(self.encoder.outgoing()).await?;
        // Not before the send: a dump that never began has no end.
        if exchange.is_dump() {
            self.socket.unfinished_dump = Some(exchange);
        }
        self.receive_answers(exchange, each).await
    }

    /// Reads to its end a dump for whose end an earlier exchange did not wait.
    async fn leave_unfinished_dump(&mut self) -> Result<(), Cause> {
        let Some(dump) = self.socket.unfinished_dump else { return Ok(()) };
        match self.receive_answers(dump, &mut |_| Ok(())).await {
            Ok(()) | Err(Cause::Answer(AnswerError::Kernel { .. })) => {}
            Err(_) => {
                self.socket.broken = true;
                self.socket.replace_spent()?;
            }
        }
        self.socket.unfinished_dump = None;
        Ok(())
    }

    async fn receive_answers(
        &mut self,
        exchange: Exchange,
        each: &mut (impl FnMut(Answer<'_>) -> Result<(), DecodeError> + Send),
    ) -> Result<(), Cause> {
        let patience = self.socket.limits.timeout;
        let hear = |datagram: &[u8]| exchange.hear(datagram, &mut *each);
        let outcome = self.socket.receive_until_end(patience, Some(exchange), hear).await;
        // An error ends a dump as well; no DONE follows it.
        if let Ok(()) | Err(Cause::Answer(AnswerError::Kernel { .. })) = outcome {
            self.socket.unfinished_dump.take_if(|dump| *dump == exchange);
        }
        outcome
    }
}
