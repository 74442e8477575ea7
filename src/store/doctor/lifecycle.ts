import { type Invariant, ofThread } from './invariant.ts'
import { endGenerations, letGoOfSweeps, writeGenerations } from './lifecycle-repairs.ts'

const isThread = `($1::text is null or t.id = $1)`
/** What happened on a thread last, where the matter is not about one operation. */
const lastOf = (thread: string) =>
  `coalesce((select o.id from thread_operations o where o.thread_id = ${thread} and o.turn is not null order by o.turn desc limit 1), 0)`

/** Provider threads, their archives and their ends: what nobody else has an inventory of. */
export const lifecycleInvariants: Invariant[] = [
  {
    name: 'provider_threads_have_a_generation',
    promise: 'The provider thread of every thread stands in the inventory, as its generation says.',
    sql: `
select ${lastOf('t.id')} as id, t.id as thread,
       format('%s is not the open generation %s', t.provider_thread_id, t.generation) as detail
  from threads t
 where t.provider_thread_id is not null and ${isThread}
   and not exists (select from thread_generations g
                    where g.thread_id = t.id and g.generation = t.generation
                      and g.provider_thread_id = t.provider_thread_id and g.ended_at is null)`,
    advice:
      'Triggers of threads were off. Without its row nobody knows of the provider thread once it is replaced.',
    fix: writeGenerations,
  },
  {
    name: 'only_the_current_generation_is_open',
    promise: 'A provider thread that a thread has no more has ended in the inventory.',
    sql: `
select ${lastOf('g.thread_id')} as id, g.thread_id as thread,
       format('generation %s (%s) has not ended, and the thread has %s', g.generation, g.provider_thread_id,
              coalesce(t.provider_thread_id, 'none')) as detail
  from thread_generations g
  left join threads t on t.id = g.thread_id
 where g.ended_at is null and ${ofThread('g')}
   and (t.generation = g.generation and t.provider_thread_id is not null) is not true`,
    advice: 'Triggers of threads were off, or a row of threads was deleted.',
    fix: endGenerations,
  },
  {
    name: 'generation_is_the_highest',
    promise: 'No provider thread of a thread has a higher number than the one that it has.',
    sql: `
select ${lastOf('t.id')} as id, t.id as thread,
       format('generation %s, but %s is there', t.generation, max(g.generation)) as detail
  from threads t
  join thread_generations g on g.thread_id = t.id and g.generation > t.generation
 where ${isThread}
 group by t.id`,
    advice:
      'threads.generation was written over, or its row deleted and made anew. Set it to the highest, or the next provider thread cannot be noted.',
  },
  {
    name: 'one_thread_per_provider_thread',
    promise: 'No two threads have one provider thread.',
    sql: `
select ${lastOf('min(t.id)')} as id, min(t.id) as thread,
       format('%s is that of: %s', t.provider_thread_id, string_agg(t.id, ', ' order by t.id)) as detail
  from threads t
 where t.provider_thread_id is not null
 group by t.provider_thread_id having count(*) > 1 and ($1::text is null or bool_or(t.id = $1))`,
    advice:
      'Two lines on one conversation race. Write to one of them from now on, and take the provider thread from the other: UPDATE threads SET provider_thread_id = NULL, closed_at = now() WHERE id = …',
  },
  {
    name: 'archives_are_complete',
    promise: 'An archive holds as many items and messages as it says, numbered without a gap.',
    sql: `
select a.operation_id as id, a.thread_id as thread,
       format('archive %s says %s items and %s messages; it holds %s and %s, numbered up to %s', a.id, a.items, a.messages,
              held.items, held.messages, held.highest) as detail
  from thread_archives a
 cross join lateral (
   select count(*) as items, count(*) filter (where m.type = 'message') as messages, coalesce(max(m.position), 0) as highest
     from archived_messages m where m.archive_id = a.id) as held
 where ${ofThread('a')}
   and (a.items, a.messages, a.items) is distinct from (held.items, held.messages, held.highest)`,
    advice:
      'Somebody wrote to archived_messages. While the provider thread is there, archive_thread makes another archive.',
  },
  {
    name: 'archived_messages_are_of_an_archive',
    promise:
      'What was archived is of an archive, of one that is being written, or of one that was given up.',
    // A loose index scan over the archives, never over all that they hold.
    sql: `
with recursive held (archive_id) as (
  select min(m.archive_id) from archived_messages m where $1::text is null
  union all
  select (select min(m.archive_id) from archived_messages m where m.archive_id > held.archive_id)
    from held where held.archive_id is not null
)
select 0::bigint as id, null as thread, format('of archive %s nothing else is left', held.archive_id) as detail
  from held
 where held.archive_id is not null
   and not exists (select from thread_archives a where a.id = held.archive_id)
   and not exists (select from unfinished_archives u where u.archive_id = held.archive_id)`,
    advice:
      'Somebody deleted a row of thread_archives, and this may be the last copy. If not: DELETE FROM archived_messages WHERE archive_id = …, and the same of archived_runs.',
  },
  {
    name: 'archives_of_generations_exist',
    promise: 'The archive that a generation names is there.',
    sql: `
select ${lastOf('g.thread_id')} as id, g.thread_id as thread,
       format('generation %s names archive %s, which is gone', g.generation, g.archive_id) as detail
  from thread_generations g
 where g.archive_id is not null and ${ofThread('g')}
   and not exists (select from thread_archives a where a.id = g.archive_id)`,
    advice: 'Somebody deleted a row of thread_archives; retention and erasure take its name back.',
  },
  {
    name: 'deletions_are_proved',
    promise: 'A conversation that was deleted is gone at the provider, as somebody has seen.',
    sql: `
select ${lastOf('g.thread_id')} as id, g.thread_id as thread,
       format('generation %s (%s) was deleted, and nobody has seen it gone', g.generation, g.provider_thread_id) as detail
  from thread_generations g
 where g.ended_by = 'deleted' and (g.deleted_at is null or g.proof is null) and ${ofThread('g')}`,
    advice: 'It may be at the provider still: look there, and repeat delete_thread.',
  },
  {
    name: 'sweeps_wait_for_their_own_operation',
    promise: 'The operation that a sweep has asked a thread for is one of that thread.',
    sql: `
select o.id, t.id as thread, format('waits for an operation of thread %s', o.thread_id) as detail
  from threads t
  join thread_operations o on o.id = t.lifecycle_operation_id
 where o.thread_id <> t.id and ${isThread}`,
    advice:
      'Somebody wrote threads.lifecycle_operation_id. Until it is null, no sweep looks at it.',
    fix: letGoOfSweeps,
  },
]
