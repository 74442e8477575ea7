import { type Invariant, type Limits, ofThread } from './invariant.ts'
import { releaseClaims, removeWaiterRows, settleOutcomes } from './repairs.ts'

/** What somebody holds, or has left for others. */
export const leftBehindInvariants = ({ staleMs }: Limits): Invariant[] => [
  {
    name: 'claims_have_living_owners',
    promise: 'Whoever is being served is served by a dispatcher that lives.',
    // requires_action waits for a person and needs nobody alive, nor does a hold; a noted outcome is already over.
    sql: `
select o.id, o.thread_id as thread,
       format('held by %s, %s', o.claimed_by,
              coalesce('silent for ' || date_trunc('second', clock_timestamp() - d.beat_at), 'which is not signed on')) as detail
  from thread_operations o
  left join dispatchers d on d.id = o.claimed_by
 where o.status = 'processing' and o.held_until is null and ${ofThread('o')}
   and (d.beat_at > clock_timestamp() - d.lease_ms * interval '1 millisecond') is not true
   and not exists (select from unsettled_outcomes u where u.operation_id = o.id and u.attempts = o.attempts)`,
    momentary: true,
    advice: 'Any running dispatcher takes it over: start one.',
    fix: releaseClaims,
  },
  {
    name: 'who_requires_action_waits_for_something',
    promise: 'What requires action has an open call, or goes on soon.',
    sql: `
select o.id, o.thread_id as thread, format('waits until %s, and no call of it is open', date_trunc('second', o.ready_at)) as detail
  from thread_operations o
 where o.status = 'requires_action' and o.ready_at > clock_timestamp() and ${ofThread('o')}
   and not exists (select from tool_calls c where c.operation_id = o.id and c.output is null)`,
    momentary: true,
    advice: 'It goes on at its deadline. Find out who wrote tool_calls past their guard.',
  },
  {
    name: 'open_calls_have_somebody_to_read_them',
    promise: 'No call waits for an output whose operation is final or gone.',
    sql: `
select c.operation_id as id, c.thread_id as thread, format('call %s is open, and its operation is %s', c.call_id, coalesce(o.status, 'gone')) as detail
  from tool_calls c
  left join thread_operations o on o.id = c.operation_id
 where c.output is null and ${ofThread('c')} and (o.id is null or o.finished_at is not null)`,
    advice: 'Whatever answers it does so for nobody. Find out who wrote past the guards.',
  },
  {
    name: 'outcomes_are_settled',
    promise: 'An outcome that could not be recorded at once is recorded soon.',
    sql: `
select u.operation_id as id, o.thread_id as thread,
       format('%s since %s, not recorded', u.outcome ->> 'status', date_trunc('second', u.noted_at)) as detail
  from unsettled_outcomes u
  left join thread_operations o on o.id = u.operation_id
 where ($1::text is null or o.thread_id = $1)
   and u.noted_at < clock_timestamp() - interval '${staleMs} milliseconds'`,
    advice:
      'Somebody’s open transaction holds the row: look for the oldest xact_start in pg_stat_activity. Without one, any running dispatcher records it.',
    fix: settleOutcomes,
  },
  {
    name: 'cancellations_are_heard',
    promise: 'A cancel_run is done soon after its operation is over.',
    sql: `
select c.id, c.thread_id as thread,
       case when o.id is null then 'pending, and about no operation'
            else format('pending, but operation %s is %s', o.id, o.status) end as detail
  from thread_operations c
  left join thread_operations o on o.id = c.target_id
 where c.status = 'pending' and c.place is null and c.operation = 'cancel_run' and ${ofThread('c')}
   and (o.id is null or o.finished_at is not null)`,
    momentary: true,
    advice:
      'Any running dispatcher completes it, unless somebody’s open transaction holds the row (see pg_stat_activity).',
  },
  {
    name: 'waiters_have_somebody_to_wait_for',
    promise: 'Nobody is noted as waiting for an operation that is final.',
    sql: `
select w.operation_id as id, o.thread_id as thread,
       format('%s waits since %s', w.waiter, date_trunc('second', w.since)) as detail
  from operation_waiters w
  left join thread_operations o on o.id = w.operation_id
 where ($1::text is null or o.thread_id = $1)
   and greatest(w.since, o.finished_at) < clock_timestamp() - interval '${staleMs} milliseconds'
   and (o.id is null or o.finished_at is not null)`,
    advice: 'A client ended without removing its rows. They only cost a NOTIFY.',
    fix: removeWaiterRows,
  },
  {
    name: 'no_copy_is_left',
    promise:
      'A provider thread that was being filled is deleted again where its operation is given up.',
    sql: `
select o.id, o.thread_id as thread, format('%s, and its copy %s may still be at the provider', o.status,
         o.progress #>> '{copying,provider_thread_id}') as detail
  from thread_operations o
 where o.finished_at is not null and o.progress ->> 'copying' is not null and ${ofThread('o')}`,
    advice:
      'It could not be deleted when the operation ended: delete it at the provider, with its items first.',
  },
]
