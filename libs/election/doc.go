// Package election elects one leader among candidates through two rows of the store.
//
// # Rows
//
//	<key>b   ballot, holder, its value and TTL, a token   written when the leader changes
//	<key>r   ballot and count                             written by every renewal too
//
// A leader reads <key>b in its transactions (Term.Check), so that they conflict with a change of leader and with
// nothing else. Renewals write only <key>r.
//
// # Invariants
//
//   - Fencing: if Check was called in a transaction and the transaction commits, it commits before any later leader's
//     claim. This needs no clock.
//   - At most one candidate's Term.Holds is true at any moment, as long as clocks run at about the same rate: over a
//     time to live, two clocks may drift apart by 1/marginDivisor of it.
//   - Ballots only grow. Each claim has a ballot of its own.
//   - While an eligible candidate can reach the store, there is a leader. The time from the death of the last leader
//     to the next claim is at most the time to live, plus one beat, plus the time that the store takes.
//
// # Why two never hold
//
// No two clocks are compared. A leader notes the moment t, on its own monotonic clock, before it begins the transaction
// that claims or renews. If it commits, Holds is true until t + TTL - margin. A challenger notes the moment s after
// it has first read the two rows in their present form. If the rows have not changed by s + TTL, it claims in a
// transaction that reads both rows, finds them unchanged, and writes both. Let the leader's last renewal be n, begun
// at t.
//
//   - If the challenger's claim was serialised before n, then n either conflicts, or reads a <key>b that is not the
//     leader's, and the leader is deposed. In both cases the leader does not count n.
//   - Otherwise the rows that the claim found are those of n, and the challenger first read them after n had been
//     committed. So s is later than t, and the claim comes after t + TTL on any clock of the same rate. By then Holds
//     has been false for a margin.
//
// The process may pause for any time between a call of Holds and the action that depends on it. Writes therefore call
// Check. An answer from memory, such as that a lease has been renewed, must be right even if it leaves late (see
// libs/lease).
//
// # Unknown outcomes
//
// If the outcome of a claim is unknown, the candidate reads <key>b back: the token shows whether the claim happened.
// If the outcome of a renewal is unknown, the next renewal reads both rows first. If <key>r shows the earlier renewal
// and the next one fails, the earlier one counts, from its own beginning. If the store is out of reach and the
// outcome stays unknown, the candidate does not count it; a claim that did happen then lapses like the term of a
// leader that has died.
//
// # Release
//
// When lead returns, Holds becomes false. Then the candidate releases the row, which names no holder any more, and
// any candidate that sees this may claim it at once.
//
// # What it costs
//
// The candidates of a process may form a Group: at each beat, a fraction of the time to live, one transaction reads
// the rows of all their elections and renews the terms of those that lead. A candidate by itself is a group of one.
// A renewal wakes no other candidate. A challenger sees renewals at its own beats, so it takes over at most one beat
// after the time to live has passed since the last renewal. A change of <key>b wakes it, so that a released row is
// claimed at once.
//
// # Concurrency
//
// Candidate.Run has one campaign at a time; Term's methods, Candidate.Nudge and Group's methods may be called from any
// goroutine. While lead runs, Group.Run's goroutine renews the term; it never waits for a candidate.
//
// # Testing
//
// The rule "unchanged for TTL on my own clock" (observer) and the end of a term (tenure) take instants as arguments
// and have no clock: TestCore drives many of them over a simulated store with clocks of different rates, pauses and
// lost answers. TestBadDays does the same with candidates on an engine with faults inside testing/synctest;
// TestRounds hands the lead around thousands of times. The engine is that of libs/engine/testengine, which may be a
// FoundationDB.
package election
