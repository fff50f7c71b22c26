//! SSH between clients and targets, on russh: channels, commands, files and forwards, each decided
//! for itself. See the README for what is decided, what is only recorded, and what is refused.
