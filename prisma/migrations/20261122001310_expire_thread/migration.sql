-- Expiry: whether the times to live of a thread's policy are over, asked at the turn of its expire_thread.

-- Which time is over, `absolute_ttl` or `idle_ttl`, and what the policy wants done then. No row where none
-- is over, nothing is to expire, or no policy says so. A thread is idle while nothing of it was served but
-- what its own life needs, and nobody waits. The policy is looked up here and now, and the times are exact.
create function expiry_of(p_id bigint, out expired_by text, out on_expiry text) returns setof record
language sql stable rows 1
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
as $$
  select over.expired_by, over.on_expiry
    from (
      select p.on_expiry,
             case when t.generation_since + p.absolute_ttl <= clock_timestamp() then 'absolute_ttl'
                  when greatest(t.generation_since, coalesce(served.at, t.last_active_at)) + p.idle_ttl <= clock_timestamp()
                       and waiting.id is null then 'idle_ttl' end as expired_by
        from thread_operations own
        join threads t on t.id = own.thread_id and t.provider_thread_id is not null
       cross join lateral policy_of(t.policy, t.user_id, t.session_id, t.topic) as p
        left join lateral (
          select latest.finished_at as at
            from (select o.turn, o.operation, o.finished_at from thread_operations o
                   where o.thread_id = own.thread_id and o.turn < own.turn order by o.turn desc limit 20) as latest
           where not keeps_thread(latest.operation) order by latest.turn desc limit 1) as served on true
        left join lateral (
          select o.id from thread_operations o
           where o.thread_id = own.thread_id and o.place > started_place() and not keeps_thread(o.operation)
           order by o.place limit 1) as waiting on true
       where own.id = p_id) as over
   where over.expired_by is not null
$$;
