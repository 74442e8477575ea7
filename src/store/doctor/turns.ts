import { headward, type Invariant, ofThread, wasSentBack } from './invariant.ts'

/** Turns, and that they are the order in which things happened. */
export const turnInvariants: Invariant[] = [
  {
    name: 'turns_are_dense',
    promise:
      'The turns of a thread are 1, 2, 3 … without a gap but for those that retention has deleted, and none was ever given twice.',
    // The turns of operations that were deleted or went back into the line are in the ledger alone; those
    // that retention took lie below the last turn that is kept with the thread.
    sql: `
select t.id, t.thread_id as thread,
       case when t.operations > 1 then format('turn %s was given to %s operations', t.turn, t.operations)
            else format('turn %s comes after turn %s', t.turn, coalesce(t.before, 0)) end as detail
  from (select min(given.id) as id, given.thread_id, given.turn, count(distinct given.id) as operations,
               lag(given.turn) over (partition by given.thread_id order by given.turn) as before
          from (select o.id, o.thread_id, o.turn from thread_operations o where ${ofThread('o')}
                union all
                select e.operation_id, e.thread_id, e.turn from operation_events e where ${ofThread('e')}) as given
         where given.turn is not null
         group by given.thread_id, given.turn) as t
  left join threads kept on kept.id = t.thread_id and exists (select from prunings p where p.operations > 0)
 where t.operations > 1 or (t.turn <> coalesce(t.before, 0) + 1 and t.turn > coalesce(kept.last_turn, 0) + 1)`,
    advice:
      'Rows were deleted past the triggers, or threads.last_turn was written over. Harmless for what comes: the next turn is the highest plus one.',
  },
  {
    name: 'turns_are_served_one_after_the_other',
    promise: 'A turn begins only when the one before it is over, by the order of the ledger.',
    sql: `
select s.id, s.thread_id as thread,
       format('turn %s began (event %s) before turn %s was over (event %s)', s.turn, s.began, s.before, s.over) as detail
  from (select turn.*, lag(turn.turn) over by_turn as before, lag(turn.latest) over by_turn as over
          from (select e.thread_id, e.turn, min(e.operation_id) as id,
                       min(e.id) filter (where e.to_status = 'processing') as began, max(e.id) as latest
                  from operation_events e where e.turn is not null and ${ofThread('e')}
                 group by e.thread_id, e.turn) as turn
        window by_turn as (partition by turn.thread_id order by turn.turn)) as s
 where s.began < s.over`,
    advice:
      'Two operations of one thread were served at once or out of turn: compare with the provider.',
  },
  {
    name: 'started_at_follows_the_turns',
    promise: 'A higher turn was never started at an earlier time.',
    sql: `
select o.id, o.thread_id as thread,
       format('turn %s was started at %s, turn %s before it at %s', o.turn, o.started_at, o.before, o.before_at) as detail
  from (select o.id, o.thread_id, o.turn, o.started_at,
               lag(o.turn) over by_turn as before, lag(o.started_at) over by_turn as before_at
          from thread_operations o where o.turn is not null and ${ofThread('o')}
        window by_turn as (partition by o.thread_id order by o.turn)) as o
 where o.started_at < o.before_at`,
    advice:
      'Where the clock of the database was set back, this is all that happened; the ledger knows the true order.',
  },
  {
    name: 'who_was_the_head_was_not_passed',
    promise: 'Nobody who came later is started before an operation that others knew as the head.',
    // head_since = created_at: it marked itself, which says nothing about when others could see it. What
    // an operator sent back into the line stands where he put it, and who deletes or rotates the thread
    // goes before all who wait. A start has looked at the line a moment before started_at: who became the
    // head in between was not there to be seen.
    sql: `
with passed as (
  select o.* from (
    select o.id, o.thread_id, o.turn, o.created_at, o.head_since, o.finished_at,
           max(o.id) over (partition by o.thread_id order by o.turn rows between unbounded preceding and 1 preceding) as highest
      from thread_operations o where o.turn is not null and ${ofThread('o')}) as o
   where o.highest > o.id and o.head_since > o.created_at and not ${wasSentBack('o')}
  union all
  select o.id, o.thread_id, null, o.created_at, o.head_since, o.finished_at, null
    from thread_operations o
   where o.turn is null and o.head_since > o.created_at and ${ofThread('o')} and not ${wasSentBack('o')}
)
select distinct on (p.id) p.id, p.thread_id as thread,
       format('head since %s, but operation %s was started at %s', p.head_since, later.id, later.started_at) as detail
  from passed p
  join thread_operations later
    on later.thread_id = p.thread_id and later.id > p.id and later.started_at > p.head_since + interval '250 milliseconds'
   and (p.turn is null or later.turn < p.turn)
   and (p.finished_at is null or p.finished_at > later.started_at)
   and later.operation not in ${headward} and not ${wasSentBack('later')}
 order by p.id, later.started_at`,
    advice: 'The promise of the order is broken: this is a defect of inturn, please report it.',
  },
]
