-- Expiry: a sweep asks for the end of conversations whose time to live is over. It inserts an ordinary
-- expire_thread for each, which looks again, exactly, at its turn; so a sweep may err, and races with nobody.

-- Each way in which threads come by a policy: named by them (named), or by the pattern of their keys. The
-- sweeps walk their indexes way by way. policy is null where threads of that pattern have none.
create function policy_ways() returns table (named text, pattern text, policy thread_policies)
language sql stable begin atomic
  with patterns (pattern) as (
    values ('user'), ('session'), ('topic'), ('user+session'), ('user+topic'), ('session+topic'), ('user+session+topic'), ('none')
  )
  select p.name, patterns.pattern, p from thread_policies p cross join patterns
  union all
  select null, patterns.pattern, counting.policy
    from patterns left join lateral (
      select p as policy from thread_policies p
       where p.pattern in (patterns.pattern, 'any') order by p.pattern = 'any' limit 1) as counting on true;
end;

-- Locks up to p_limit threads that came by their policy in this way and whose clock (last_active_at,
-- generation_since) stood still since p_before, the longest first; not those whose line is halted. A thread
-- is idle only if nobody stands in its line and nobody was served since: last_active_at is written by the
-- minute. Dynamic, because `policy = $1` and `policy is null` are two scans of the index; ordered by all its
-- columns, because the planner does not take `is null` for one value.
create function lock_due_threads(p_named text, p_pattern text, p_clock text, p_before timestamptz, p_limit integer) returns text[]
language plpgsql as $$
declare
  v_due text[];
begin
  execute format($walk$
    select array(
      select t.id from threads t
       where t.provider_thread_id is not null and t.closed_at is null and t.lifecycle_operation_id is null
         and %1$s and pattern_of(t.user_id, t.session_id, t.topic) = $2 and t.%2$I < $3 and t.generation_since < $3
         and (t.on_failure = 'continue' or not line_is_halted(t.id))
         and (%3$L = 'generation_since' or not exists (
               select from thread_operations w where w.thread_id = t.id and w.place is not null) and not exists (
               select from (select l.operation, l.finished_at from thread_operations l
                             where l.thread_id = t.id and l.turn is not null order by l.turn desc limit 20) as latest
                where latest.finished_at >= $3
                  and not keeps_thread(latest.operation)))
       order by t.policy, pattern_of(t.user_id, t.session_id, t.topic), t.%2$I limit $4 for no key update skip locked)
    $walk$, case when p_named is null then 't.policy is null' else 't.policy = $1' end, p_clock, p_clock)
    into v_due using p_named, p_pattern, p_before, p_limit;
  return v_due;
end $$;

-- One pass. Asks for the end of threads that are over their time: so many that at most p_most of such
-- requests, and at most a quarter of all slots, are served or may be served at once; the rest waits for the
-- next pass. Lets go of threads whose request is over: one that failed or was cancelled comes again after
-- an hour. waiting counts the requests that are under way now. One pass at a time; another does nothing.
create function expire_threads(p_most integer, out requested integer, out released integer, out waiting integer)
language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
  set enable_hashjoin = off set enable_mergejoin = off
  set enable_material = off set jit = off set lock_timeout = '20ms'
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_room integer;
  v_way record;
  v_due text[];
begin
  requested := 0;
  released := 0;
  waiting := 0;
  if not pg_try_advisory_xact_lock(hashtextextended('inturn expiry ' || current_schema(), 0)) then
    return;
  end if;

  with over as (
    select t.id from threads t left join thread_operations o on o.id = t.lifecycle_operation_id
     where t.lifecycle_operation_id is not null
       and (o.id is null
            or o.finished_at < v_now - case o.status when 'completed' then interval '1 minute' else interval '1 hour' end)
       for no key update of t skip locked
  )
  update threads t set lifecycle_operation_id = null from over where t.id = over.id;
  get diagnostics released = row_count;

  -- Who comes back to a thread that was about to expire does not wait behind a request that everybody passes.
  update thread_operations o set priority = 0
   where o.id = any (array(
           select r.id from threads t join thread_operations r on r.id = t.lifecycle_operation_id
            where t.lifecycle_operation_id is not null and r.status = 'pending' and r.priority < 0 and r.place is not null
              and exists (select from thread_operations n where n.thread_id = r.thread_id and n.place > r.place)
              for update of r skip locked));

  -- One that stands behind others takes no slot.
  select count(*) into waiting
    from threads t join thread_operations o on o.id = t.lifecycle_operation_id
   where t.lifecycle_operation_id is not null and (o.status = 'processing' or o.ready_at <> never());
  select least(p_most, ceil(sum(d.concurrency) / 4.0)) - waiting into v_room from dispatchers d;

  for v_way in
    select w.named, w.pattern, due.clock, due.before
      from policy_ways() w
     cross join lateral (values ('last_active_at', v_now - (w.policy).idle_ttl),
                                ('generation_since', v_now - (w.policy).absolute_ttl)) as due (clock, before)
     where due.before is not null
  loop
    exit when v_room <= 0;
    v_due := lock_due_threads(v_way.named, v_way.pattern, v_way.clock, v_way.before, v_room);
    with asked as (
      insert into thread_operations (thread_id, operation, priority)
      select due.id, 'expire_thread', -50 from unnest(v_due) as due (id)
      returning id, thread_id
    )
    update threads t set lifecycle_operation_id = asked.id from asked where t.id = asked.thread_id;
    requested := requested + cardinality(v_due);
    v_room := v_room - cardinality(v_due);
  end loop;
  waiting := waiting + requested;
end $$;
