import { kindsBesideTheLine } from '../../model/operation.ts'
import { providerNames } from '../../model/thread.ts'
import { active, final, type Invariant, ofThread, wasSentBack } from './invariant.ts'

const providers = providerNames.map((name) => `'${name}'`).join(', ')
/** Who was sent back keeps the number of its attempts. */
const claimsWithoutTurn = `(o.turn is null and o.attempts > 0 and not ${wasSentBack('o')} or o.turn is not null and o.attempts = 0)`
const beside = `('${kindsBesideTheLine.join("', '")}')`
const hasPlace = `(o.operation not in ${beside} and o.status in ('pending', 'processing', 'requires_action'))`
/** Active or ended well, in the line; what was refused because the thread was busy has failed without a turn. */
const lacksTurn = `(o.turn is null and o.operation not in ${beside} and o.status in ('processing', 'requires_action', 'completed'))`
const mayBeHeld = `(o.operation = 'hold' and o.status = 'processing')`
const pastTheGuard = 'Somebody wrote this row past the guard. Find out who before it is set right.'

/** What a row must hold, by how far it has come. */
export const rowInvariants: Invariant[] = [
  {
    name: 'row_fits_its_status',
    promise:
      'Final operations have an end and no place, active ones a turn, those being served an owner, and pending ones none of these.',
    sql: `
select o.id, o.thread_id as thread, o.status || ': ' || concat_ws(', ',
         case when o.status not in ('scheduled', 'pending', 'processing', 'requires_action', 'completed', 'failed', 'cancelled')
              then 'no such status' end,
         case when o.status in ${final} and o.finished_at is null then 'finished_at is null' end,
         case when o.status not in ${final} and o.finished_at is not null then 'finished_at is set' end,
         case when o.status = 'processing' and o.claimed_by is null then 'claimed_by is null' end,
         case when o.status <> 'processing' and o.claimed_by is not null then 'claimed_by is set' end,
         case when o.held_until is not null and not ${mayBeHeld} then 'held_until is set' end,
         case when o.status not in ('pending', 'requires_action') and o.ready_at is not null then 'ready_at is set' end,
         case when ${hasPlace} and o.place is null then 'place is null' end,
         case when not ${hasPlace} and o.place is not null then 'place is set' end,
         case when ${lacksTurn} then 'turn is null' end,
         case when (o.turn is null) <> (o.started_at is null) or ${claimsWithoutTurn}
              then format('turn %s, started_at %s, attempts %s', o.turn, o.started_at, o.attempts) end) as detail
  from thread_operations o
 where ${ofThread('o')}
   and ((o.status in ${final}) <> (o.finished_at is not null)
     or (o.status = 'processing') <> (o.claimed_by is not null)
     or (o.held_until is not null and not ${mayBeHeld})
     or (o.status not in ('pending', 'requires_action') and o.ready_at is not null)
     or (o.place is not null) <> ${hasPlace}
     or ${lacksTurn}
     or (o.turn is null) <> (o.started_at is null)
     or ${claimsWithoutTurn})`,
    advice: pastTheGuard,
  },
  {
    name: 'results_are_there',
    promise: 'Completed operations say what exists at the provider, failed ones why they failed.',
    // The id of a run may be null, where the reply that named it was lost; it is never left out.
    sql: `
select o.id, o.thread_id as thread, format('%s is %s without %s', o.operation, o.status,
         case when o.status = 'completed' and o.operation in ('create_run', 'add_message_and_run') then 'result.run'
              when o.status = 'completed' and o.operation = 'add_message' then 'result.message_id'
              when o.status = 'completed' and o.operation in ('cancel_run', 'expire_thread') then 'result.outcome'
              when o.status = 'completed' and o.operation = 'delete_thread' then 'result.deleted'
              when o.status = 'completed' and o.operation in ('archive_thread', 'rotate_thread') then 'result.items'
              when o.status = 'completed' then 'result.provider_thread_id'
              else 'error.code' end) as detail
  from thread_operations o
 where ${ofThread('o')}
   and case
         when o.status = 'completed' then
           case o.operation
             when 'cancel_run' then o.result ->> 'outcome' is null
             when 'expire_thread' then o.result ->> 'outcome' is null
             when 'delete_thread' then o.result -> 'deleted' is null
             when 'submit_tool_outputs' then false
             when 'hold' then false
             when 'archive_thread' then o.result ->> 'items' is null
             when 'rotate_thread' then o.result ->> 'items' is null
             when 'add_message' then o.result ->> 'message_id' is null
             when 'create_run' then not coalesce(o.result -> 'run' ? 'id' and o.result #>> '{run,status}' in ('completed', 'incomplete'), false)
             when 'add_message_and_run' then not coalesce(o.result -> 'run' ? 'id' and o.result #>> '{run,status}' in ('completed', 'incomplete'), false)
             else o.result ->> 'provider_thread_id' is null
           end
         when o.status = 'failed' then o.error ->> 'code' is null
         -- Cancelled while it waited, nothing went wrong; cancelled by its run, it must say so.
         when o.status = 'cancelled' and o.turn is not null and o.error ->> 'code' is null then exists (
           select from operation_events e
            where e.thread_id = o.thread_id and e.operation_id = o.id
              and e.to_status = 'cancelled' and e.from_status in ${active})
         else false
       end`,
    advice: 'The provider knows what became of it; the ids that were known are in progress.',
  },
  {
    name: 'started_threads_exist',
    promise: 'A thread of which an operation was started has a row.',
    sql: `
select min(o.id) as id, o.thread_id as thread, 'no such row in threads' as detail
  from thread_operations o
 where o.turn is not null and ${ofThread('o')}
   and not exists (select from threads t where t.id = o.thread_id)
 group by o.thread_id`,
    advice:
      'The row was deleted while operations remain: the next one would begin a new conversation at the provider.',
  },
  {
    name: 'provider_is_known',
    promise: 'A started operation names a provider that exists.',
    sql: `
select o.id, o.thread_id as thread, format('provider is %L', o.provider) as detail
  from thread_operations o
 where ${ofThread('o')}
   and (o.provider not in (${providers}, '') or (o.provider = '' and o.turn is not null))`,
    advice: pastTheGuard,
  },
]
