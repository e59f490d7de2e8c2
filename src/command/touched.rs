//! A message that somebody has touched, as this instance knows it: what the log has, and what is on its way there.
//!
//! A change is decided on the message as it will be once everything before it is stored. Else the second of two changes in
//! quick succession, such as an emoji put on and taken back at once, would be taken for done already, and a deleted message
//! for one that can still be edited.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::changing::{Planned, unknown_message};
use crate::domain::event::Body;
use crate::domain::ids::UserId;
use crate::domain::state::MessageState;
use crate::error::{Code, Error, Result};

/// What a message takes beside its words and emoji, about.
const BESIDE: usize = 512;
/// Events that wait for a message to be read, at most.
const WAITING: usize = 64;
/// Changes of one user to one message that are not stored yet, at most.
const IN_HAND: usize = 8;
/// Stands for the places of changes that have none yet: they come after everything that has one.
const NOT_YET: u64 = 1 << 62;

#[derive(Debug)]
struct InHand {
    ticket: u64,
    user: UserId,
    body: Body,
}

#[derive(Debug, Default)]
struct Known {
    /// Nothing while it is being read.
    state: Option<MessageState>,
    /// What happened to it meanwhile.
    waiting: Vec<(u64, Body)>,
    /// Changes on their way to the log, in the order in which they were decided.
    in_hand: Vec<InHand>,
    tickets: u64,
    /// What the cache was told last that it takes.
    weighed: usize,
}

/// A message that somebody has touched.
#[derive(Debug, Default)]
pub struct Touched(Mutex<Known>);

/// A change on its way; it counts until this is dropped.
#[derive(Debug)]
#[must_use = "it counts until it is dropped"]
pub struct OnItsWay {
    touched: Arc<Touched>,
    ticket: u64,
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.touched.known().in_hand.retain(|one| one.ticket != self.ticket);
    }
}

/// A change that is to be stored.
#[derive(Debug)]
pub struct Begun {
    /// The place of the message.
    pub seq: u64,
    /// What the log has to say.
    pub body: Body,
    /// It is on its way.
    pub on_its_way: OnItsWay,
}

impl Touched {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change under this lock is complete before it can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was read.
    pub(super) fn is_read(&self) -> bool {
        self.known().state.is_some()
    }

    /// Looks at the message as it is now.
    pub fn look<T>(&self, look: impl FnOnce(&MessageState) -> T) -> Result<T> {
        self.known().state.as_ref().map(look).ok_or_else(unknown_message)
    }

    /// Begins a change of a user, which `plan` makes of the message as it will be. Nothing is begun if it is so already; but
    /// what is on its way may still come to nothing, so that then, or if the caller insists, the log says it once more. Too
    /// many at once are refused.
    pub fn begin(
        self: &Arc<Self>,
        user: UserId,
        insist: bool,
        plan: impl FnOnce(&MessageState) -> Result<Planned>,
    ) -> Result<Option<Begun>> {
        let mut known = self.known();
        if known.in_hand.iter().filter(|busy| busy.user == user).count() >= IN_HAND {
            return Err(Error::new(Code::RateLimited, "too_many_in_flight", "wait until your changes are stored")
                .retry_after(Duration::from_millis(100)));
        }
        let state = known.state.as_ref().ok_or_else(unknown_message)?;
        let seq = state.seq;
        let Planned { body, news } =
            if known.in_hand.is_empty() { plan(state)? } else { plan(&known.expected(state))? };
        if !news && !insist && known.in_hand.is_empty() {
            return Ok(None);
        }
        known.tickets += 1;
        let ticket = known.tickets;
        known.in_hand.push(InHand { ticket, user, body: body.clone() });
        Ok(Some(Begun { seq, body, on_its_way: OnItsWay { touched: self.clone(), ticket } }))
    }

    /// Takes over what happened to it; says whether there is room for more while it is being read.
    pub fn apply(&self, seq: u64, body: &Body) -> bool {
        let mut known = self.known();
        if let Some(state) = &mut known.state {
            state.apply(seq, body);
            state.forget_wordings();
            true
        } else {
            known.waiting.push((seq, body.clone()));
            known.waiting.len() < WAITING
        }
    }

    /// It was read.
    pub(super) fn fill(&self, mut state: MessageState) {
        let mut known = self.known();
        for (seq, body) in known.waiting.drain(..) {
            state.apply(seq, &body);
        }
        state.forget_wordings();
        known.state.get_or_insert(state);
    }

    /// What it takes, for the cache.
    pub(super) fn weigh(&self) -> u32 {
        let mut known = self.known();
        known.weighed = known.bytes();
        u32::try_from(known.weighed).unwrap_or(u32::MAX)
    }

    /// Whether it takes much more than the cache was told.
    pub(super) fn has_outgrown(&self) -> bool {
        let known = self.known();
        known.bytes() > 2 * known.weighed
    }
}

impl Known {
    /// The message as it will be if everything on its way is stored.
    fn expected(&self, state: &MessageState) -> MessageState {
        let mut expected = state.clone();
        for (at, one) in (NOT_YET..).zip(&self.in_hand) {
            expected.apply(at, &one.body);
        }
        expected
    }

    fn bytes(&self) -> usize {
        let words = |state: &MessageState| {
            let mentions = state.mentions().len() + state.hidden.len();
            let attached = state.message.attachments.len() + state.progress.len();
            state.text().len() + mentions * 32 + state.edits.len() * 96 + state.reactions.len() * 128 + attached * 512
        };
        let on_their_way = self.waiting.iter().map(|(_, body)| body).chain(self.in_hand.iter().map(|one| &one.body));
        let beside = on_their_way.map(|body| match body {
            Body::Edit(edit) => BESIDE + edit.text.len(),
            _ => BESIDE,
        });
        BESIDE + self.state.as_ref().map_or(0, words) + beside.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::change::{Edit, Scope};
    use crate::domain::changing::What;
    use crate::domain::clock::Timestamp;
    use crate::domain::emoji::Emoji;
    use crate::domain::ids::{ConversationId, MessageId};
    use crate::domain::message::{Kind, Message};
    use crate::domain::words::MessageText;

    const ID: MessageId = MessageId::from_bits(4);
    const HERE: ConversationId = ConversationId::from_bits(5);
    const ANA: UserId = UserId::from_bits(1);
    const BEN: UserId = UserId::from_bits(2);
    const NOW: Timestamp = Timestamp::from_millis(0);

    fn touched() -> Arc<Touched> {
        let touched = Arc::<Touched>::default();
        let message = Message {
            id: ID,
            conversation_id: HERE,
            sender_id: ANA,
            sender_name: "Ana".into(),
            kind: Kind::Text,
            text: "first".into(),
            reply_to: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
            entry: None,
            client_message_id: None,
            created_at: NOW,
        };
        touched.fill(MessageState::new(7, message));
        touched
    }

    fn begin(touched: &Arc<Touched>, user: UserId, what: &What) -> Result<Option<Begun>, &'static str> {
        touched.begin(user, false, |state| state.change(what, user, NOW, None)).map_err(|error| error.reason())
    }

    fn stored(touched: &Touched, seq: u64, begun: &Begun) {
        touched.apply(seq, &begun.body);
    }

    fn react(on: bool) -> What {
        What::React { emoji: Emoji::new("👍").expect("an emoji"), on }
    }

    fn edit(text: &str) -> What {
        What::Edit { text: MessageText::new(text).expect("a text"), mentions: None }
    }

    #[test]
    fn what_is_on_its_way_counts_for_what_comes_next() {
        let touched = touched();
        for (first, second) in [
            (react(true), react(false)),
            (edit("second"), edit("first")),
            (What::Pin { on: true }, What::Pin { on: false }),
        ] {
            let one = begin(&touched, ANA, &first).expect("allowed").expect("it is news");
            let two = begin(&touched, ANA, &second).expect("allowed").expect("and so is this by then");
            drop(one);
            drop(two);
            assert!(begin(&touched, ANA, &second).expect("allowed").is_none(), "nothing was stored: it is so already");
        }
    }

    #[test]
    fn what_may_come_to_nothing_is_not_relied_on() {
        let touched = touched();
        let one = begin(&touched, BEN, &react(true)).expect("allowed").expect("it is news");
        let again = begin(&touched, BEN, &react(true)).expect("allowed").expect("the first may be refused yet");
        stored(&touched, 8, &one);
        drop((one, again));
        assert!(begin(&touched, BEN, &react(true)).expect("allowed").is_none(), "it is stored");
        let told = |state: &MessageState| state.change(&react(true), BEN, NOW, None);
        assert!(touched.begin(BEN, true, told).expect("allowed").is_some(), "somebody knows better");
    }

    #[test]
    fn nothing_is_done_to_a_message_whose_deletion_is_on_its_way() {
        let touched = touched();
        let deletion = begin(&touched, ANA, &What::Delete(Scope::Everybody)).expect("allowed").expect("it is news");
        assert_eq!(begin(&touched, ANA, &edit("second")).err(), Some("message_deleted"));
        assert_eq!(begin(&touched, BEN, &react(true)).err(), Some("message_deleted"));
        drop(deletion);
        assert!(begin(&touched, ANA, &edit("second")).is_ok(), "it was refused");
    }

    #[test]
    fn somebody_has_only_so_many_changes_in_hand() {
        let touched = touched();
        let texts = |number: usize| edit(&format!("wording {number}"));
        let mut in_hand: Vec<_> = (0..IN_HAND).map(|number| begin(&touched, ANA, &texts(number))).collect();
        assert_eq!(begin(&touched, ANA, &texts(IN_HAND)).err(), Some("too_many_in_flight"));
        assert!(begin(&touched, BEN, &react(true)).is_ok(), "others are free");
        in_hand.pop();
        assert!(begin(&touched, ANA, &texts(IN_HAND)).is_ok());
    }

    #[test]
    fn whoever_reads_for_ever_is_not_waited_for() {
        let touched = Touched::default();
        let again = Body::Edit(Edit {
            message_id: ID,
            conversation_id: HERE,
            message_seq: 7,
            text: "again".into(),
            mentions: Vec::new(),
            edited_at: NOW,
        });
        let taken = (0..1_000).take_while(|seq| touched.apply(*seq, &again)).count();
        assert_eq!(taken, WAITING - 1);
    }
}
