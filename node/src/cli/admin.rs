//! `admin`: what the members decide by vote.

use std::fmt::Display;

use bithealth_http::api::{Change, ProposalInfo};
use bithealth_types::Digest;

use super::args::{AdminCommand, ProposeCommand};
use super::exit::Exit;
use super::failure::Failure;
use super::recover;
use super::show::{Show, count, counted, plain, print_line, span, table};
use crate::client::Client;

/// Digits of a proposal's id that people see; as many as they may leave out the rest.
const ID_SHOWN_LEN: usize = 8;

/// Runs `admin`.
pub(crate) async fn run(client: &Client, command: AdminCommand, show: Show) -> Result<Exit, Failure> {
    match command {
        AdminCommand::Proposals => proposals(client, show).await,
        AdminCommand::Propose(command) => {
            let proposal = client.propose(&change(command)).await?;
            tell(&proposal, show);
            Ok(Exit::Done)
        }
        AdminCommand::Retire { node } => retire(client, &node, show).await,
        AdminCommand::RotateKey { .. } | AdminCommand::Move { .. } | AdminCommand::Offer { .. } => {
            unreachable!("dispatched before")
        }
        AdminCommand::RecoveryKey { output } => recover::make_key(&output, show),
        AdminCommand::Recover(command) => recover::run(client, command, show).await,
        AdminCommand::Approve { proposal } => {
            let id = find(&client.proposals().await?, &proposal)?;
            tell(&client.approve(&id).await?, show);
            Ok(Exit::Done)
        }
    }
}

fn change(command: ProposeCommand) -> Change {
    match command {
        ProposeCommand::Remove { organisation } => Change::Remove { member: organisation },
        ProposeCommand::Labels { organisation, region, jurisdiction } => {
            Change::Labels { member: organisation, region, jurisdiction }
        }
        ProposeCommand::Voting { organisation, votes } => Change::Voting { member: organisation, votes: votes.is_on() },
        ProposeCommand::Defaults { survive } => Change::Defaults { survive },
        ProposeCommand::Keys => Change::Keys { member: None },
    }
}

/// The one proposal whose id begins like this.
fn find(proposals: &[ProposalInfo], start: &str) -> Result<Digest, Failure> {
    let ids = proposals.iter().map(|it| it.id);
    begins(ids, start, "proposal", "`bithealth admin proposals` lists them")
}

/// The one id that begins like this.
fn begins<T: Display>(ids: impl Iterator<Item = T>, start: &str, what: &str, listed: &str) -> Result<T, Failure> {
    let start = start.to_lowercase();
    let mut fits: Vec<T> = ids.filter(|id| id.to_string().starts_with(&start)).collect();
    match fits.len() {
        0 => Err(Failure::new(format_args!("no {what}'s id begins with {start:?}")).next(listed)),
        1 => Ok(fits.remove(0)),
        count => Err(Failure::new(format_args!("{} begin with {start:?}", counted(count as u64, "id")))
            .next("give more of its digits")),
    }
}

async fn retire(client: &Client, start: &str, show: Show) -> Result<Exit, Failure> {
    let status = client.status().await?;
    let nodes = status.nodes.iter().map(|it| it.node);
    let node = begins(nodes, start, "node", "`bithealth status` lists them")?;
    let at = client.retire(&node).await?;
    show.answer(&serde_json::json!({ "node": node, "entry": at }), |_| format!("{} is retired", node.short()));
    show.note("from the next block on nothing new is placed on it, and it writes nothing more");
    Ok(Exit::Done)
}

fn tell(proposal: &ProposalInfo, show: Show) {
    show.answer(proposal, |it| format!("{}: {}; {}", short(it), words(&it.change), standing(it)));
    if let Some(next) = due(proposal) {
        show.note(next);
    }
}

/// What others have to do so that it passes.
pub(crate) fn due(proposal: &ProposalInfo) -> Option<String> {
    let missing = Some(proposal.missing()).filter(|missing| *missing > 0)?;
    let others = counted(u64::from(missing), "organisation");
    let verb = if missing == 1 { "approves" } else { "approve" };
    Some(format!("it passes when {others} more {verb} it: `bithealth admin approve {}`", short(proposal)))
}

fn short(proposal: &ProposalInfo) -> String {
    proposal.id.to_string()[..ID_SHOWN_LEN].to_owned()
}

fn words(change: &Change) -> String {
    match change {
        Change::Invite { name, region, jurisdiction, by, .. } => {
            format!("{by} invites {name}, in {region} ({jurisdiction})")
        }
        Change::Remove { member } => format!("{member} is a member no more"),
        Change::Labels { member, region, jurisdiction } => {
            format!("nodes of {member} may stand in {region} ({jurisdiction})")
        }
        Change::Voting { member, votes: true } => format!("{member} votes"),
        Change::Voting { member, votes: false } => format!("{member} votes no more"),
        Change::Defaults { survive } => {
            let what = survived(u64::from(survive.regions), u64::from(survive.nodes));
            format!("{what}, unless their author says otherwise")
        }
        Change::Keys { member } => {
            format!("{} goes on with new keys", member.as_deref().unwrap_or("this organisation"))
        }
    }
}

/// What records survive, where so many whole regions and further nodes may vanish at once.
fn survived(regions: u64, nodes: u64) -> String {
    match (regions, nodes) {
        (0, 0) => "records survive no loss".to_owned(),
        (regions, 0) => format!("records survive the loss of {}", counted(regions, "region")),
        (0, nodes) => format!("records survive the loss of {}", counted(nodes, "node")),
        (regions, nodes) => {
            format!("records survive the loss of {} and {} besides", counted(regions, "region"), counted(nodes, "node"))
        }
    }
}

fn standing(proposal: &ProposalInfo) -> String {
    match (proposal.passed, proposal.height) {
        (true, Some(height)) => format!("passed with block {}", count(height.0)),
        (true, None) => "passes with the next block".to_owned(),
        (false, _) => format!("{} of {} are for it", proposal.approved_by.len(), proposal.needed),
    }
}

async fn proposals(client: &Client, show: Show) -> Result<Exit, Failure> {
    let proposals = client.proposals().await?;
    if show.json {
        proposals.iter().for_each(|it| show.event(it));
    } else if proposals.is_empty() {
        print_line("nothing was proposed");
    } else {
        let row = |it: &ProposalInfo| vec![short(it), words(&it.change), standing(it), it.approved_by.join(", ")];
        let rows: Vec<_> = proposals.iter().map(row).collect();
        print_line(table(&["PROPOSAL", "CHANGE", "STANDING", "FOR IT"], &rows).trim_end());
    }
    Ok(Exit::Done)
}

/// What `invite` says of how to go on.
pub(crate) fn after_invite(proposal: &ProposalInfo, ttl_s: u64) -> String {
    let good = format!("good for {}", span(ttl_s));
    match due(proposal) {
        None => format!("{good}; the other side runs `bithealth join INVITE`"),
        Some(due) => format!("{good}; {}; then the other side runs `bithealth join INVITE`", plain(&due)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bithealth_http::api::SurviveWanted;
    use bithealth_types::Height;

    fn proposal(first: u8, approved: usize, passed: bool) -> ProposalInfo {
        let mut id = [7; 32];
        id[0] = first;
        ProposalInfo {
            id: Digest(id),
            change: Change::Remove { member: "South Clinic".into() },
            approved_by: vec!["North Clinic".into(); approved],
            needed: 3,
            passed,
            height: passed.then_some(Height(1234)),
        }
    }

    #[test]
    fn a_proposal_is_found_by_the_first_digits_that_tell_it_from_others() {
        let all = [proposal(1, 1, false), proposal(2, 1, false)];
        assert_eq!(find(&all, "02").unwrap(), all[1].id);
        assert_eq!(find(&all, "0207").unwrap(), all[1].id);
        assert!(find(&all, "0").unwrap_err().what.contains("2 ids begin"));
        assert!(find(&all, "03").unwrap_err().what.contains("no proposal"));
    }

    #[test]
    fn what_records_survive_is_said_without_what_they_need_not() {
        let said = |regions, nodes| words(&Change::Defaults { survive: SurviveWanted { regions, nodes } });
        let otherwise = ", unless their author says otherwise";
        assert_eq!(said(1, 2), format!("records survive the loss of 1 region and 2 nodes besides{otherwise}"));
        assert_eq!(said(0, 1), format!("records survive the loss of 1 node{otherwise}"));
        assert_eq!(said(2, 0), format!("records survive the loss of 2 regions{otherwise}"));
        assert_eq!(said(0, 0), format!("records survive no loss{otherwise}"));
    }

    #[test]
    fn what_is_due_is_said_until_it_passed() {
        assert_eq!(standing(&proposal(1, 2, false)), "2 of 3 are for it");
        let due_now = due(&proposal(1, 2, false)).unwrap();
        assert_eq!(due_now, "it passes when 1 organisation more approves it: `bithealth admin approve 01070707`");
        assert_eq!(due(&proposal(1, 3, true)), None);
        assert_eq!(standing(&proposal(1, 3, true)), "passed with block 1,234");
    }
}
