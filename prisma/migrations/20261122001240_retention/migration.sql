-- Retention: what is final goes when its time is over, with all that belongs to it. Ids rise with time,
-- so a walk along the key needs no index of its own: it goes round in steps, and turns where the rows
-- are younger than the shortest time that anything is kept.

-- Whether something unfinished still asks for a final operation: a merge or a batch that carries its
-- message, a failure after which its line does not simply go on, a cancel_run that is not done, the sweep that
-- has inserted it, an erasure that waits for its proof.
create function is_still_needed(o thread_operations) returns boolean language sql stable as $$
  select o.error ->> 'code' = 'merged' and exists (
           select from thread_operations m where m.id = (o.error ->> 'operation_id')::bigint and m.finished_at is null)
      or exists (select from thread_operations c where c.target_id = o.id and c.status = 'pending' and c.place is null)
      or exists (select from unresumed_failure(o.thread_id) as failure where failure.operation_id = o.id)
      or exists (select from threads t where t.id = o.thread_id and t.lifecycle_operation_id = o.id)
      or o.operation = 'add_message' and exists (
           select from (select b.intent from thread_operations b
                         where b.thread_id = o.thread_id and b.place is not null order by b.place limit 50) as line
            where line.intent -> 'batch' @> to_jsonb(o.id))
      or o.operation = 'delete_thread' and exists (select from erasures e where e.finished_at is null)
$$;

-- How far a walk has come, for the one that goes on with it. Null: somebody else is at it.
create function take_walk(p_sweep text) returns bigint language plpgsql as $$
declare
  v_after bigint;
begin
  insert into sweep_positions (sweep, after) values (p_sweep, '0') on conflict do nothing;
  select s.after::bigint into v_after from sweep_positions s where s.sweep = p_sweep for update skip locked;
  return v_after;
end $$;

-- One step along the operations: looks at the next p_limit and deletes those that are final and over the
-- time that the policy of their thread keeps them, with their ledger entries, streams, tool calls and
-- whatever else is left of them. The only function that may delete from the ledger. What somebody's
-- transaction holds, or whose thread row it holds, is left for the next round. is_round: it has turned.
create function prune_operations(p_limit integer, out looked integer, out pruned integer, out is_round boolean)
language plpgsql security definer
  set search_path from current set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
  set enable_material = off set jit = off set lock_timeout = '100ms'
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_shortest interval := (select min(p.operation_retention) from thread_policies p);
  v_after bigint;
  v_step bigint[];
  v_ids bigint[];
  v_threads text[];
  v_policies text[];
  v_held text[];
begin
  looked := 0;
  pruned := 0;
  is_round := true;
  if v_shortest is not null then
    v_after := take_walk('operations');
  end if;
  if v_after is null then
    return;
  end if;
  select coalesce(array_agg(step.id order by step.id) filter (where step.created_at < v_now - v_shortest), '{}'), count(*)
    into v_step, looked
    from (select o.id, o.created_at from thread_operations o where o.id > v_after order by o.id limit p_limit) as step;
  is_round := looked < p_limit or cardinality(v_step) < looked;
  begin
    select array_agg(old.id), array_agg(old.thread_id), array_agg(old.policy) into v_ids, v_threads, v_policies
      from (select o.id, o.thread_id, p.name as policy
              from thread_operations o
              left join threads t on t.id = o.thread_id
             cross join lateral policy_of(t.policy, t.user_id, t.session_id, t.topic) as p
             where o.id = any (v_step) and o.finished_at < v_now - p.operation_retention and not is_still_needed(o)
               for update of o skip locked) as old;
    -- Turns and sums go over to the thread's row.
    v_held := array(
      select t.id from threads t where t.id = any (v_threads)
      except
      select free.id from (select t.id from threads t where t.id = any (v_threads) for no key update skip locked) as free);
    with gone as (
      select old.* from unnest(v_ids, v_threads, v_policies) as old (id, thread_id, policy) where not old.thread_id = any (v_held)
    ), events as (
      delete from operation_events e using gone where e.thread_id = gone.thread_id and e.operation_id = gone.id returning gone.policy
    ), waiters as (
      delete from operation_waiters w using gone where w.operation_id = gone.id
    ), lanes as (
      delete from lane_runs r using gone where r.operation_id = gone.id
    ), users as (
      delete from user_runs r using gone where r.operation_id = gone.id
    ), operations as (
      delete from thread_operations o using gone where o.id = gone.id returning gone.policy
    ), counted as (
      select policy, 1 as operations, 0 as events, 0 as streams from operations
      union all select policy, 0, 1, 0 from events
      union all select gone.policy, 0, 0, 1 from gone join operation_stream s on s.operation_id = gone.id and s.first_seq = 1
    ), noted as (
      insert into prunings as p (day, policy, operations, events, streams)
      select current_date, policy, sum(c.operations), sum(c.events), sum(c.streams) from counted c group by policy
          on conflict (day, policy) do update
             set operations = p.operations + excluded.operations, events = p.events + excluded.events,
                 streams = p.streams + excluded.streams, last_at = clock_timestamp()
    )
    select count(*) into pruned from operations;
  exception when lock_not_available or deadlock_detected then
    pruned := 0; -- these come up again in the next round
  end;
  update sweep_positions s set after = case when is_round then 0 else v_step[looked] end where s.sweep = 'operations';
end $$;

-- One step along the archives, as prune_operations. The row of thread_archives goes at once, so that the
-- archive counts no more; its messages, which may be many, are left to delete_unfinished_archives.
create function prune_archives(p_limit integer, out looked integer, out pruned integer, out is_round boolean)
language plpgsql security definer
  set search_path from current set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
  set enable_material = off set jit = off set lock_timeout = '100ms'
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_shortest interval := (select min(p.archive_retention) from thread_policies p);
  v_after bigint;
  v_step bigint[];
begin
  looked := 0;
  pruned := 0;
  is_round := true;
  if v_shortest is not null then
    v_after := take_walk('archives');
  end if;
  if v_after is null then
    return;
  end if;
  select coalesce(array_agg(step.id order by step.id) filter (where step.archived_at < v_now - v_shortest), '{}'), count(*)
    into v_step, looked
    from (select a.id, a.archived_at from thread_archives a where a.id > v_after order by a.id limit p_limit) as step;
  is_round := looked < p_limit or cardinality(v_step) < looked;
  begin
    with old as (
      select a.id, a.thread_id, a.generation, a.operation_id, p.name as policy
        from thread_archives a
        left join threads t on t.id = a.thread_id
       cross join lateral policy_of(t.policy, t.user_id, t.session_id, t.topic) as p
       where a.id = any (v_step) and a.archived_at < v_now - p.archive_retention
         for update of a skip locked
    ), archives as (
      delete from thread_archives a using old where a.id = old.id returning old.policy
    ), messages as (
      insert into unfinished_archives (archive_id, operation_id, thread_id) select old.id, old.operation_id, old.thread_id from old
    ), runs as (
      delete from archived_runs r using old where r.archive_id = old.id
    ), generations as (
      update thread_generations g set archive_id = null from old
       where g.thread_id = old.thread_id and g.generation = old.generation and g.archive_id = old.id
    ), noted as (
      insert into prunings as p (day, policy, archives)
      select current_date, policy, count(*) from archives group by policy
          on conflict (day, policy) do update set archives = p.archives + excluded.archives, last_at = clock_timestamp()
    )
    select count(*) into pruned from archives;
  exception when lock_not_available or deadlock_detected then
    pruned := 0;
  end;
  update sweep_positions s set after = case when is_round then 0 else v_step[looked] end where s.sweep = 'archives';
end $$;
