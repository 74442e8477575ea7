import { active, headward, type Invariant, ofThread, wasSentBack } from './invariant.ts'
import { markHeads, takeMarksOff } from './repairs.ts'

/** Who is the first of a line, and nobody else is served. */
export const lineInvariants: Invariant[] = [
  {
    name: 'one_active_operation',
    promise: 'No thread has two active operations.',
    sql: `
select min(o.id) as id, o.thread_id as thread,
       'active at once: ' || string_agg(o.id || ' by ' || coalesce(o.claimed_by, 'nobody'), ', ' order by o.id) as detail
  from thread_operations o
 where o.status in ${active} and ${ofThread('o')}
 group by o.thread_id having count(*) > 1`,
    advice:
      'The unique index one_active_operation_per_thread is missing or broken: stop the dispatchers, find out which of the two is real at the provider, and restore the index.',
  },
  {
    name: 'first_is_marked',
    promise: 'The first of every line that is not halted is served or marked as the head.',
    // A loose index scan over the threads that wait, never over their backlogs.
    sql: `
with recursive line (thread_id) as (
  (select o.thread_id from thread_operations o
    where o.place is not null and ${ofThread('o')} order by o.thread_id limit 1)
  union all
  select (select o.thread_id from thread_operations o
           where o.place is not null and o.thread_id > line.thread_id order by o.thread_id limit 1)
    from line where line.thread_id is not null and $1::text is null
)
select first.id, first.thread_id as thread, 'first of its line, pending and not marked' as detail
  from line
 cross join lateral (
   select o.* from thread_operations o
    where o.thread_id = line.thread_id and o.place is not null order by o.place limit 1) as first
 where first.status = 'pending' and first.ready_at is null and not line_is_halted(first.thread_id)`,
    momentary: true,
    advice:
      'Any running dispatcher marks it, unless somebody’s open transaction holds the row (see pg_stat_activity).',
    fix: markHeads,
  },
  {
    name: 'only_the_first_is_marked',
    promise: 'Nobody is marked as the head who is not the first of the line.',
    // While an older mark waits, no dispatcher has come to this one yet.
    sql: `
select m.id, m.thread_id as thread,
       format('marked since %s, but operation %s is first', m.ready_at, first.id) as detail
  from thread_operations m
 cross join lateral (
   select o.id from thread_operations o
    where o.thread_id = m.thread_id and o.place is not null order by o.place limit 1) as first
 where m.ready_at is not null and m.place is not null and first.id <> m.id and ${ofThread('m')}
   and not exists (select from thread_operations older
                    where older.ready_at is not null and older.provider = m.provider
                      and older.priority = m.priority and older.ready_at < m.ready_at)`,
    momentary: true,
    advice:
      'Harmless: it costs a dispatcher one look. A dispatcher with a free slot takes the mark off.',
    fix: takeMarksOff,
  },
  {
    name: 'place_is_kept',
    promise:
      'Who was started stands before all others, who was not stands where he joined or was sent back to, right behind whoever sends his message along, or, to rotate or delete the thread, before all who wait.',
    sql: `
select o.id, o.thread_id as thread,
       format('%s, but its place is %s', case when o.turn is null then 'never started' else 'started' end, o.place) as detail
  from thread_operations o
 where o.place is not null and ${ofThread('o')}
   and case when o.turn is not null then o.place <> started_place()
            else o.place <> o.id and o.place not between started_place() + 1 and started_place() + 19 and not ((o.place < 0 or o.place > o.id) and o.place > started_place() and ${wasSentBack('o')})
                 and not (o.operation in ${headward} and o.place between started_place() + 20 and -1) end`,
    advice: 'Somebody wrote this column past the guard. Find out who before it is set right.',
  },
  {
    name: 'started_stays_first',
    promise: 'Nobody is started before the operation that was started last is final.',
    sql: `
select o.id, o.thread_id as thread,
       format('turn %s is %s, but turn %s has begun', o.turn, o.status, later.turn) as detail
  from thread_operations o
 cross join lateral (
   select l.turn, l.status from thread_operations l
    where l.thread_id = o.thread_id and l.turn > o.turn order by l.turn limit 1) as later
 where o.place is not null and o.turn is not null and ${ofThread('o')}
   and not (o.status in ${active} and later.status in ${active})`,
    advice:
      'Look at both operations in thread_timeline, and at the provider, before anything else.',
  },
]
