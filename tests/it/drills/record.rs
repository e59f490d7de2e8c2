//! What a drill knows at its end: what clients did and were told, and what the log, MongoDB and the API have.

/// How one attempt of an operation ended for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored, said the server.
    Acked { id: String, seq: u64 },
    /// It is not stored, said the server, and why.
    Refused { reason: String, retryable: bool },
    /// Nobody can say: no answer, or the server did not know.
    Unknown,
}

/// One message that somebody sent, with every attempt under the same clientMessageId.
#[derive(Debug, Clone)]
pub struct Send {
    pub client_message_id: String,
    pub conversation: String,
    pub sender: String,
    pub attempts: Vec<Outcome>,
}

impl Send {
    /// What its client knows after the last attempt: an ack stands, and a refusal does not undo an unknown outcome.
    pub fn outcome(&self) -> Outcome {
        let acked = self.attempts.iter().find(|outcome| matches!(outcome, Outcome::Acked { .. }));
        let unknown = self.attempts.iter().find(|outcome| matches!(outcome, Outcome::Unknown));
        acked.or(unknown).or(self.attempts.last()).cloned().unwrap_or(Outcome::Unknown)
    }
}

/// One reading of a history over the API.
#[derive(Debug, Clone)]
pub struct Read {
    pub status: u16,
    pub reason: String,
    /// An id that had been acknowledged to this reader before and was not there.
    pub missed: Option<String>,
}

/// A durable event that a socket was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub event: String,
    pub id: String,
    pub seq: u64,
    /// The conversation it is about; a notification is in its user's inbox.
    pub conversation: Option<String>,
}

/// A subscriber: one logical connection, over however many sockets it took.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    pub name: String,
    pub user: String,
    /// The place from which on it was told everything.
    pub start: u64,
    /// In the order of their coming, each once.
    pub seen: Vec<Seen>,
    /// Events that came again, after a resume or a resend.
    pub again: usize,
    /// Sockets that it took.
    pub sockets: usize,
    /// Times that it went on from its cursor.
    pub resumes: usize,
    /// Reasons why it could not and had to reload.
    pub reloads: Vec<String>,
    /// Codes that the server closed its sockets with; 0 for a broken connection.
    pub ends: Vec<u16>,
}

/// An event in the log.
#[derive(Debug, Clone)]
pub struct Logged {
    pub seq: u64,
    pub kind: String,
    /// The id that clients know it by.
    pub id: String,
    pub recipients: Vec<String>,
    pub body: LoggedBody,
}

/// What the rules need to know of it.
#[derive(Debug, Clone)]
pub enum LoggedBody {
    Message { conversation: String, sender: String, client_message_id: Option<String> },
    Notification { user: String, message: String },
    Other,
}

/// A message in MongoDB, or in a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub id: String,
    pub conversation: String,
    pub seq: u64,
}

/// A notification in MongoDB.
#[derive(Debug, Clone)]
pub struct Told {
    pub id: String,
    pub user: String,
    pub message: String,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub sends: Vec<Send>,
    pub reads: Vec<Read>,
    pub observers: Vec<Observed>,
    pub log: Vec<Logged>,
    /// `messages` of MongoDB.
    pub messages: Vec<Kept>,
    /// `notifications` of MongoDB.
    pub notifications: Vec<Told>,
    /// The histories over the API, each in its order.
    pub histories: Vec<Kept>,
}
