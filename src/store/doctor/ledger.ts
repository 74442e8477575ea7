import { transitions } from '../../model/operation.ts'
import { final, type Invariant, ofThread } from './invariant.ts'

const legal = Object.entries(transitions)
  .flatMap(([from, next]) => next.map((to) => `('${from}', '${to}')`))
  .join(', ')
/** A held operation that is served again, and one that failed whose line goes on. */
const resumed = `('pending', 'pending'), ('failed', 'failed')`
const first = (event: string) =>
  `case ${event}.from_status when 'scheduled' then 'scheduled' else 'pending' end`
/** The status of an operation to which nothing has happened since the INSERT. */
const unrecorded = `case o.status when 'scheduled' then 'scheduled' else 'pending' end`
const advice =
  'The ledger was rewritten, or rows were changed with its trigger off. It is never repaired: it would no longer be one.'

/** The ledger is a chain without a missing link, and tells the same story as the rows. */
export const ledgerInvariants: Invariant[] = [
  {
    name: 'ledger_is_connected',
    promise:
      'The events of an operation go from pending, or from scheduled, each from where the last one ended, by legal steps or by none where an operator resumed it.',
    sql: `
select e.operation_id as id, e.thread_id as thread,
       format('event %s goes from %s to %s, after %s', e.id, e.from_status, e.to_status, e.was) as detail
  from (select e.*, coalesce(lag(e.to_status) over (partition by e.thread_id, e.operation_id order by e.id), ${first('e')}) as was
          from operation_events e where ${ofThread('e')}) as e
 where e.from_status <> e.was or (e.from_status, e.to_status) not in (${legal}, ${resumed})`,
    advice,
  },
  {
    name: 'ledger_counts_the_attempts',
    promise: 'Every claim is one more attempt, and nothing else is.',
    sql: `
select e.operation_id as id, e.thread_id as thread,
       format('event %s (%s to %s) is of attempt %s, after %s', e.id, e.from_status, e.to_status, e.attempt, e.was) as detail
  from (select e.*, coalesce(lag(e.attempt) over (partition by e.thread_id, e.operation_id order by e.id), 0) as was
          from operation_events e where ${ofThread('e')}) as e
 where e.attempt - e.was <> case when e.to_status = 'processing' then 1 else 0 end`,
    advice,
  },
  {
    name: 'ledger_ends_in_the_present',
    promise:
      'The last event of an operation shows its status, turn and attempts; who is gone was final.',
    sql: `
select coalesce(o.id, e.operation_id) as id, coalesce(o.thread_id, e.thread_id) as thread,
       case when o.id is null then format('gone, but %s by the ledger', e.to_status)
            else format('%s, turn %s, attempts %s; by the ledger %s, turn %s, attempts %s', o.status, coalesce(o.turn::text, '-'), o.attempts,
                        coalesce(e.to_status, ${unrecorded}), coalesce(e.turn::text, '-'), coalesce(e.attempt, 0)) end as detail
  from (select o.* from thread_operations o where ${ofThread('o')}) as o
  full join (select distinct on (e.thread_id, e.operation_id) e.* from operation_events e
              where ${ofThread('e')} order by e.thread_id, e.operation_id, e.id desc) as e
    on e.operation_id = o.id and e.thread_id = o.thread_id
 where case when o.id is null then e.to_status not in ${final}
            else (o.status, o.turn, o.attempts) is distinct from (coalesce(e.to_status, ${unrecorded}), e.turn, coalesce(e.attempt, 0)) end`,
    advice,
  },
]
