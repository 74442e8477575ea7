-- Statistics: what threads do, have and will be, for one of them and for a page of many. Nothing is stored.

-- What a thread does now, out of its line: index probes only. The last run is looked for among the last
-- 100 operations, so that nothing here grows with what a thread has finished. Each `limit 1` keeps the planner
-- from joining whole tables instead of asking for one thread. Parsed here and now, for views; a part of their
-- plan, so a row costs no call.
create function thread_line(t threads)
returns table (
  state text, waiting bigint, active_operation_id bigint, active_operation text, active_since timestamptz, active_run_id text,
  last_run_id text, last_run_status text, last_run_finished_at timestamptz)
language sql stable rows 1 begin atomic
  select case when (t).deleted_at is not null then 'deleted'
              when (t).closed_at is not null then 'closed'
              when active.status = 'requires_action' then 'requires_action'
              when head.status = 'pending' and head.ready_at = never() then 'held'
              when failure.on_failure = 'halt' then 'halted'
              when head.id is not null then 'active'
              when (t).provider_thread_id is null and last_ended.ended_by = 'expired' then 'expired'
              else 'idle' end,
         -- Whoever is served has a place, too. No condition on the status, so that the index alone tells.
         line.places - case when active.id is null then 0 else 1 end,
         active.id, active.operation, active.started_at,
         case when not coalesce(head.progress -> 'failed_run_ids', '[]') ? (head.progress ->> 'run_id')
              then head.progress ->> 'run_id' end,
         last_run.progress ->> 'run_id',
         coalesce(last_run.result -> 'run' ->> 'status', last_run.status),
         last_run.finished_at
    from (select count(*) as places from thread_operations o where o.thread_id = (t).id and o.place is not null) as line
    left join lateral (
     select o.id, o.status, o.ready_at, o.progress from thread_operations o
      where o.thread_id = (t).id and o.place is not null order by o.place limit 1) as head on true
    left join lateral (
     select o.id, o.operation, o.status, o.started_at from thread_operations o
      where o.thread_id = (t).id and o.status in ('processing', 'requires_action') limit 1) as active on true
    left join lateral (
     select f.on_failure from unresumed_failure((t).id) as f where (t).on_failure = 'halt' limit 1) as failure on true
    left join lateral (
     select g.ended_by from thread_generations g
      where (t).provider_thread_id is null and g.thread_id = (t).id and g.generation = (t).generation limit 1) as last_ended on true
    left join lateral (
     select latest.* from (
       select o.turn, o.progress, o.result, o.status, o.finished_at from thread_operations o
        where o.thread_id = (t).id and o.turn is not null order by o.turn desc limit 100) as latest
      where latest.progress ? 'run_id' order by latest.turn desc limit 1) as last_run on true;
end;

-- One row per thread that has a row. A page of them costs as much as its rows:
-- `where thread_id > … order by thread_id limit 100`.
create view thread_stats as
select t.id as thread_id, line.state, t.user_id, t.session_id, t.topic, t.labels, t.metadata,
       coalesce(t.provider, nullif(provider_of(t.id, '', '{}', null), '')) as provider,
       t.provider_thread_id, t.generation, t.generation_since, current.copied_from,
       policy.name as policy,
       this_generation.messages, this_generation.tokens,
       so_far.messages as messages_total, so_far.runs, so_far.input_tokens, so_far.output_tokens,
       line.waiting, line.active_operation_id, line.active_operation, line.active_since, line.active_run_id,
       line.last_run_id, line.last_run_status, line.last_run_finished_at,
       t.last_active_at,
       expiry.at as expires_at, expiry.because as expires_because,
       policy.max_messages as rotates_at_messages, policy.max_tokens as rotates_at_tokens,
       case when t.provider_thread_id is not null then t.generation_since + policy.max_age end as rotates_after,
       thread_warning(t.provider, this_generation.messages, policy.max_messages) as warning,
       archive.count as archives, archive.last_id as last_archive_id, archive.last_at as last_archived_at,
       t.created_at
  from threads t
 cross join lateral thread_line(t) as line
  left join lateral (
   select g.copied_from, g.messages_before, g.tokens_before, g.carried_over from thread_generations g
    where g.thread_id = t.id and g.generation = t.generation limit 1) as current on true
 cross join lateral thread_totals(t.id, 9223372036854775807) as so_far
 cross join lateral (
   select case when t.provider_thread_id is null then 0
               else so_far.messages - current.messages_before + current.carried_over end as messages,
          case when t.provider_thread_id is null then 0
               else so_far.input_tokens + so_far.output_tokens - current.tokens_before end as tokens) as this_generation
  left join lateral policy_of(t.policy, t.user_id, t.session_id, t.topic) as policy on true
  left join lateral (
   select ttl.at, ttl.because
     from (values (t.last_active_at + policy.idle_ttl, 'idle'), (t.generation_since + policy.absolute_ttl, 'absolute')) as ttl (at, because)
    where ttl.at is not null and t.provider_thread_id is not null and t.closed_at is null
    order by ttl.at limit 1) as expiry on true
 cross join lateral (
   select count(*) as count, max(a.id) as last_id, max(a.archived_at) as last_at
     from thread_archives a where a.thread_id = t.id) as archive;

-- What threads do now, also of threads that have no row yet, because nothing of them was ever started.
create view thread_states as
select t.id as thread_id, line.state, line.waiting, line.active_operation_id, line.active_operation, line.active_since,
       line.last_run_id, line.last_run_status, line.last_run_finished_at,
       coalesce(t.provider, nullif(provider_of(t.id, '', '{}', null), '')) as provider,
       t.provider_thread_id, t.metadata, t.created_at
  from threads t
 cross join lateral thread_line(t) as line
union all
select o.thread_id, 'active', count(*), null, null, null, null, null, null,
       nullif(provider_of(o.thread_id, '', '{}', null), ''), null, null, null
  from thread_operations o
 where o.place is not null and not exists (select from threads t where t.id = o.thread_id)
 group by o.thread_id;
