-- Views for people: who waits and why, the story of a thread, and what failed.

-- position 1 is served next. The wait falls into two parts: for the own thread, then for a dispatcher.
create view waiting_operations as
select o.id, o.thread_id, o.operation, o.priority,
       row_number() over (partition by o.thread_id order by o.place) as position,
       coalesce(o.head_since, clock_timestamp()) - o.created_at as waited_for_thread,
       case when o.head_since is not null then clock_timestamp() - o.head_since end as waited_as_head,
       case
         when active.held_until is not null then format('behind operation %s, a hold of %s until %s', active.id, active.claimed_by,
                                                        date_trunc('second', active.held_until))
         when active.id is not null then format('behind operation %s, %s since %s', active.id, active.status,
                                                date_trunc('second', active.started_at))
         when failure.on_failure = 'halt'
           then format('halted since operation %s failed: resume_thread or retry_operation', failure.operation_id)
         when o.id <> first.id and first.ready_at = never() then format('behind operation %s, which is held for an operator', first.id)
         when o.id <> first.id then 'behind the operations before it'
         when o.ready_at = never() then 'held for an operator: ' || coalesce(o.error ->> 'code', 'resume_thread')
         when o.ready_at is null then 'its turn: the next sweep marks it'
         when o.ready_at > clock_timestamp() and o.turn is null and o.debounce_ms is not null
           then format('debounces until %s', date_trunc('second', o.ready_at))
         when o.ready_at > clock_timestamp() then format('attempt %s is due at %s%s', o.attempts + 1,
                                                         date_trunc('second', o.ready_at), ' (' || (o.error ->> 'code') || ')')
         when not exists (select from dispatchers d
                           where d.beat_at > clock_timestamp() - d.lease_ms * interval '1 millisecond'
                             and (o.provider = any (d.providers) or (o.provider = '' and cardinality(d.providers) > 0)))
           then case when o.provider = '' then 'no dispatcher is running'
                     else format('no dispatcher serves the provider %s', o.provider) end
         else concat('ready: waits for a free slot', resting_key.told) end as waits_for,
       o.ready_at, o.attempts, o.error ->> 'code' as last_error_code, o.created_at
  from thread_operations o
  left join thread_operations active
    on active.thread_id = o.thread_id and active.status in ('processing', 'requires_action')
  left join lateral (
   -- Which dispatcher would serve it, and so with which key, is not known before.
   select format('; a key of its provider rests (%s)', l.reason) as told from lanes l
    where o.provider in ('', l.provider) and l.model = '' and l.paused_until > clock_timestamp()
    order by l.paused_until desc limit 1) as resting_key on true
  left join lateral unresumed_failure(o.thread_id) as failure on true
 cross join lateral (
   select f.id, f.ready_at from thread_operations f
    where f.thread_id = o.thread_id and f.place is not null order by f.place limit 1) as first
 where o.place is not null and o.status = 'pending';

create view thread_timeline as
select story.thread_id, story.at, story.operation_id, o.operation, coalesce(story.turn, o.turn) as turn, story.event, story.attempt,
       story.actor, story.code, story.run_id
  from (
    select c.thread_id, c.created_at as at, c.id as operation_id, c.turn,
           case when c.finished_at = c.created_at then 'was asked for'
                when c.scheduled_at > c.created_at then 'was scheduled for ' || date_trunc('second', c.scheduled_at)
                when c.operation in ('cancel_run', 'submit_tool_outputs') then 'was asked for'
                else 'joined the line' end as event, null::integer as attempt,
           c.created_by as actor, null as code, null as run_id, 0 as nth
      from thread_operations c
    union all
    select e.thread_id, e.at, e.operation_id, e.turn,
           case
             when e.to_status = e.from_status then 'was resumed'
             when e.code = 'thread_busy' and e.from_status = 'pending' then 'was refused, behind operation ' || (e.detail ->> 'operation_id')
             when e.code = 'superseded' then 'was superseded by operation ' || (e.detail ->> 'operation_id')
             when e.code = 'merged' then 'was merged into operation ' || (e.detail ->> 'operation_id')
             when e.from_status = 'scheduled' and e.to_status = 'pending' then 'joined the line'
             when e.to_status = 'pending' and e.from_status in ('failed', 'cancelled') then 'went back into the line'
             when e.to_status = 'pending' and e.retry_at = never() then 'is held for an operator'
             when e.to_status = 'processing' and e.from_status = 'requires_action' then 'went on'
             when e.to_status = 'processing' and e.attempt = 1 then 'started'
             when e.to_status = 'processing' then 'started again'
             when e.to_status = 'requires_action' then 'waits for tool outputs'
             when e.to_status = 'pending' and e.code is not null then 'will be tried again at ' || date_trunc('second', e.retry_at)
             when e.to_status = 'pending' then 'was given back'
             else e.to_status end,
           e.attempt, e.actor, e.code, e.run_id, e.id
      from operation_events e) as story
  left join thread_operations o on o.id = story.operation_id
 order by story.at, story.operation_id, story.nth;

-- A claim begins with the step from pending to processing and ends with the first one that leaves it.
create view dead_letters as
select o.id, o.thread_id, o.operation, o.turn, o.finished_at as failed_at, o.error ->> 'code' as code, o.error,
       story.attempts
  from thread_operations o
  left join lateral (
   select jsonb_agg(jsonb_build_object(
            'attempt', began.attempt, 'turn', began.turn, 'dispatcher', began.actor, 'started_at', began.at,
            'ended_at', ended.at, 'status', ended.to_status, 'code', ended.code, 'detail', ended.detail,
            'run_id', ended.run_id) order by began.id) as attempts
     from operation_events began
     left join lateral (
       select e.at, e.to_status, e.code, e.detail, e.run_id from operation_events e
        where e.thread_id = began.thread_id and e.operation_id = began.operation_id and e.id > began.id
          and e.from_status in ('processing', 'requires_action') and e.to_status not in ('processing', 'requires_action')
        order by e.id limit 1) as ended on true
    where began.thread_id = o.thread_id and began.operation_id = o.id
      and began.from_status = 'pending' and began.to_status = 'processing') as story on true
 where o.status = 'failed' and o.turn is not null;
