//! Names of states and reasons, as people read them.

use corral_api::RunStateView;
use corral_model::event::{ApprovalState, StreamEnd};
use corral_model::{CloseReason, RunEnd};

#[must_use]
pub(crate) fn run_state(state: RunStateView) -> &'static str {
    match state {
        RunStateView::Active => "active",
        RunStateView::Ended => "ended",
    }
}

#[must_use]
pub(crate) fn run_end(reason: RunEnd) -> &'static str {
    match reason {
        RunEnd::Done => "done",
        RunEnd::Killed => "killed",
        RunEnd::Expired => "expired",
        RunEnd::ParentEnded => "parent ended",
        RunEnd::SponsorDisabled => "sponsor disabled",
        RunEnd::WrapperLost => "wrapper lost",
        RunEnd::BudgetSpent => "budget spent",
        RunEnd::RenewMissed => "not renewed",
        RunEnd::JobEnded => "job ended",
    }
}

#[must_use]
pub(crate) fn close_reason(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Client => "by the client",
        CloseReason::Target => "by the target",
        CloseReason::Killed => "killed",
        CloseReason::Expired => "expired",
        CloseReason::Disabled => "disabled",
        CloseReason::Idle => "idle",
        CloseReason::Budget => "budget spent",
        CloseReason::Protocol => "protocol broken",
        CloseReason::Tripwire => "mask tripwire",
        CloseReason::Record => "record unavailable",
        CloseReason::Authority => "store away",
        CloseReason::Shutdown => "gateway stopped",
        CloseReason::Lost => "lost",
    }
}

#[must_use]
pub(crate) fn stream_end(from: StreamEnd) -> &'static str {
    match from {
        StreamEnd::Client => "client",
        StreamEnd::Target => "target",
        StreamEnd::TargetError => "errors",
    }
}

#[must_use]
pub(crate) fn approval_state(state: ApprovalState) -> &'static str {
    match state {
        ApprovalState::Pending => "pending",
        ApprovalState::Approved => "approved",
        ApprovalState::Denied => "denied",
        ApprovalState::Expired => "expired",
        ApprovalState::Withdrawn => "withdrawn",
    }
}
