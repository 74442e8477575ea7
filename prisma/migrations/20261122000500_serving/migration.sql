-- Serving the lines: settle what finished, move its lines on, claim into the free slots, all in one
-- round trip and one commit.
--
-- The settings on these functions leave the planner one sensible plan, an index probe per row, however
-- old its statistics are: a fresh table, a bulk load or a million dead rows change nothing.
-- lock_timeout: whatever a user's open transaction holds is skipped; the few waits that cannot be
-- (a unique key in the making) are cut short.

-- What to serve next in these lines: the first operation of each, where it waits unmarked; which lines
-- are empty; whether anybody waits for a result. Decided without a lock; whoever acts on it locks that
-- row alone, never the one behind it.
create function next_in_line(p_threads text[], out waiting bigint[], out empty text[], out somebody_waits boolean)
language sql stable as $$
  select coalesce(array_agg(head.id) filter (where head.status = 'pending' and head.ready_at is null), '{}'),
         array_agg(line.thread_id) filter (where head.id is null),
         exists (select from operation_waiters)
    from unnest(p_threads) as line (thread_id)
    left join lateral (
      select o.id, o.status, o.ready_at from thread_operations o
       where o.thread_id = line.thread_id and o.finished_at is null
       order by o.place limit 1) as head on true
$$;

-- Marks these operations as heads, except what somebody's transaction holds; the sweep comes back for it.
create function mark_heads(p_ids bigint[]) returns integer language plpgsql as $$
declare
  v_marked integer;
begin
  update thread_operations o
     set head_since = coalesce(o.head_since, clock_timestamp()),
         ready_at = clock_timestamp(),
         provider = provider_of(o.thread_id, o.operation, o.data, (select t.provider from threads t where t.id = o.thread_id))
   where o.id = any (array(
           select l.id from thread_operations l
            where l.id = any (p_ids) and l.status = 'pending' and l.ready_at is null for update skip locked));
  get diagnostics v_marked = row_count;
  return v_marked;
end $$;

-- Whoever cancels a waiting head by a plain UPDATE moves its line on.
create function move_on_after_cancel() returns trigger language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
  v_threads text[];
  v_ids bigint[];
begin
  select array_agg(distinct n.thread_id), array_agg(n.id) into v_threads, v_ids
    from new_rows n where n.prev_status = 'pending' and n.status = 'cancelled';
  if v_threads is not null and mark_heads((next_in_line(v_threads)).waiting) > 0 then
    perform wake_dispatchers();
  end if;
  perform notify_waiters(v_ids);
  return null;
end $$;

create trigger z_move_on_after_cancel after update on thread_operations
  referencing new table as new_rows for each statement
  when (current_setting('inturn.line', true) is distinct from 'on')
  execute function move_on_after_cancel();

-- Records outcomes, an object by operation id: {"7": {"attempts": 1, "status": "completed", "result": …}}.
-- Only the owner of a claim (dispatcher and attempt) can settle it; returns how many came too late and
-- changed nothing. What a user's transaction holds is noted beside, for anybody to settle later.
create function settle_operations(p_dispatcher text, p_ids bigint[], p_outcomes jsonb) returns integer
language plpgsql as $$
declare
  v_free bigint[] := p_ids;
  v_settled integer;
  v_noted integer := 0;
begin
  loop
    begin
      update thread_operations o
         set status = p_outcomes -> o.id::text ->> 'status',
             result = coalesce(p_outcomes -> o.id::text -> 'result', o.result),
             error = p_outcomes -> o.id::text -> 'error',
             failures = o.failures + coalesce((p_outcomes -> o.id::text ->> 'failures')::integer, 0),
             ready_at = clock_timestamp() + (p_outcomes -> o.id::text ->> 'retry_ms')::integer * interval '1 millisecond',
             finished_at = case when p_outcomes -> o.id::text ->> 'status' <> 'pending' then clock_timestamp() end,
             claimed_by = null
       where o.id = any (v_free)
         and o.claimed_by = p_dispatcher and o.attempts = (p_outcomes -> o.id::text ->> 'attempts')::integer;
      get diagnostics v_settled = row_count;
      exit;
    exception when lock_not_available or deadlock_detected then
      -- Somebody's transaction holds one of the rows: leave it out, it must not hold up the others.
      v_free := array(select o.id from thread_operations o where o.id = any (p_ids) for update skip locked);
    end;
  end loop;
  if v_free <> p_ids then
    insert into unsettled_outcomes (operation_id, attempts, claimed_by, outcome)
    select o.id, o.attempts, o.claimed_by, p_outcomes -> o.id::text
      from thread_operations o
     where o.id = any (p_ids) and not o.id = any (v_free)
       and o.claimed_by = p_dispatcher and o.attempts = (p_outcomes -> o.id::text ->> 'attempts')::integer
        on conflict (operation_id) do update
           set attempts = excluded.attempts, claimed_by = excluded.claimed_by, outcome = excluded.outcome;
    get diagnostics v_noted = row_count;
  end if;
  return cardinality(p_ids) - v_settled - v_noted;
end $$;

-- Tells those who wait for one of these results, when it is final.
create function notify_waiters(p_ids bigint[]) returns void language sql as $$
  select pg_notify('inturn_settled', o.id::text)
    from thread_operations o
   where o.id = any (p_ids)
     and o.status in ('completed', 'failed', 'cancelled')
     and exists (select from operation_waiters w where w.operation_id = o.id)
$$;

-- The thread of an operation appears with its first start, not with the INSERT: there it would be a lock.
create function create_missing_threads(p_ids bigint[], p_default_provider text) returns void language sql as $$
  insert into threads (id, provider, provider_thread_id)
  select o.thread_id, coalesce(nullif(o.provider, ''), p_default_provider),
         case when provider_of(o.thread_id, '', '{}', null) <> '' then o.thread_id end
    from thread_operations o
   where o.id = any (p_ids) and not exists (select from threads t where t.id = o.thread_id)
      on conflict (id) do nothing
$$;

-- Starts these operations, which the caller found next in their lines. Looks again, with a new snapshot,
-- whether each is still the first of its line: what was locked may have been overtaken meanwhile.
create function start_operations(p_dispatcher text, p_ids bigint[], p_default_provider text) returns text[]
language plpgsql as $$
declare
  v_started text[];
begin
  with started as (
    update thread_operations o
       set status = 'processing',
           place = 0, -- a started operation stays first, whoever commits an earlier place now
           claimed_by = p_dispatcher,
           attempts = o.attempts + 1,
           ready_at = null,
           head_since = coalesce(o.head_since, clock_timestamp()),
           provider = coalesce(t.provider, nullif(o.provider, ''), p_default_provider),
           turn = coalesce(o.turn, greatest(t.last_turn, coalesce((
             select m.turn from thread_operations m
              where m.thread_id = o.thread_id and m.turn is not null order by m.turn desc limit 1), 0)) + 1),
           started_at = coalesce(o.started_at, clock_timestamp())
      from threads t
     where o.id = any (p_ids) and t.id = o.thread_id
       and o.status = 'pending'
       and o.id = (select f.id from thread_operations f
                    where f.thread_id = o.thread_id and f.finished_at is null order by f.place limit 1)
    returning o.id, o.thread_id, o.operation, o.data, o.turn, o.attempts, o.failures, o.provider, o.intent, o.progress,
              t.provider_thread_id, t.last_item_id
  )
  select array_agg(row_to_json(s)::text) into v_started from started s;
  return v_started;
end $$;

-- The priorities that heads have now, and 0; highest first. An index probe for each and each provider.
create function head_priorities(p_providers text[]) returns smallint[] language sql stable as $$
  with recursive head (provider, priority) as (
    select p.provider, (select max(h.priority) from thread_operations h
                         where h.ready_at is not null and h.provider = p.provider)
      from unnest(p_providers) as p (provider)
    union all
    select head.provider, (select max(h.priority) from thread_operations h
                            where h.ready_at is not null and h.provider = head.provider and h.priority < head.priority)
      from head where head.priority is not null
  )
  select array_agg(distinct coalesce(priority, 0::smallint) order by coalesce(priority, 0::smallint) desc) from head
$$;

-- Takes the oldest ready heads of these providers, highest priority first, into at most p_free slots.
-- p_floors: for each priority, no live mark lies below it as far as the caller knows, so the scan need
-- not pass the dead index entries there; null looks at everything. floors are those for the next time;
-- met counts the heads it found, claimed or not.
create function claim_heads(
  p_dispatcher text, p_free integer, p_providers text[], p_default_provider text, p_priorities smallint[], p_floors timestamptz[],
  out claimed text[], out met integer, out floors timestamptz[])
language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
  v_nth integer;
  v_heads bigint[] := '{}';
  v_found bigint[];
  v_oldest timestamptz;
  v_id bigint;
  v_stale text[];
begin
  floors := p_floors;
  begin
    for v_nth in 1..cardinality(p_priorities) loop
      -- The order by and limit stand below the lock: rows that somebody holds do not count.
      select array_agg(head.id order by head.ready_at, head.id), min(head.ready_at) into v_found, v_oldest
        from unnest(p_providers) as p (provider)
       cross join lateral (
         select h.id, h.ready_at from thread_operations h
          where h.ready_at is not null and h.provider = p.provider and h.priority = p_priorities[v_nth]
            and h.ready_at >= coalesce(p_floors[v_nth], '-infinity') and h.ready_at <= v_now
          order by h.ready_at, h.id limit p_free
            for update skip locked) as head;
      -- A transaction that marked itself a second ago may commit only now.
      floors[v_nth] := coalesce(v_oldest, v_now) - interval '1 second';
      v_heads := (v_heads || coalesce(v_found, '{}'))[:p_free];
      exit when cardinality(v_heads) = p_free;
    end loop;
    if v_heads <> '{}' then
      perform create_missing_threads(v_heads, p_default_provider);
      claimed := start_operations(p_dispatcher, v_heads, p_default_provider);
    end if;
  exception when unique_violation or deadlock_detected or lock_not_available then
    -- One of them met somebody else's transaction. One by one, so that only that one waits.
    claimed := null;
    perform set_config('lock_timeout', '1ms', true);
    foreach v_id in array v_heads loop
      begin
        if exists (select from thread_operations o
                    where o.id = v_id and o.status = 'pending' and o.ready_at <= v_now for update skip locked) then
          perform create_missing_threads(array[v_id], p_default_provider);
          claimed := claimed || start_operations(p_dispatcher, array[v_id], p_default_provider);
        end if;
      exception when unique_violation or deadlock_detected or lock_not_available then
        update thread_operations o set ready_at = clock_timestamp() + interval '250 milliseconds'
         where o.id = (select l.id from thread_operations l where l.id = v_id and l.status = 'pending' for update skip locked);
      end;
    end loop;
    perform set_config('lock_timeout', '20ms', true);
  end;
  met := cardinality(v_heads);

  if coalesce(cardinality(claimed), 0) < met then
    -- Marks on operations that are not the first of their line (two overlapping inserts both saw an
    -- empty one): take them off, and make sure that the first has its own.
    with stale as (
      update thread_operations o set ready_at = null
       where o.id = any (array(select l.id from thread_operations l where l.id = any (v_heads) for update skip locked))
         and o.status = 'pending' and o.ready_at is not null
         and o.id <> (select f.id from thread_operations f
                       where f.thread_id = o.thread_id and f.finished_at is null order by f.place limit 1)
      returning o.thread_id
    )
    select array_agg(distinct s.thread_id) into v_stale from stale s;
    if v_stale is not null then
      perform mark_heads((next_in_line(v_stale)).waiting);
    end if;
  end if;
end $$;

-- One round of a dispatcher. p_threads are the lines to move on: those of the operations it settles, and
-- those it emptied before and looks at again. p_priorities and p_floors as in claim_heads, null looks
-- them up anew; p_awake takes back that the dispatcher sleeps. claimed is a JSON array of what it holds now; emptied are those of p_threads where
-- nobody waits; oldest_xid and next_xid bound the transactions that were open when it looked.
create function settle_and_claim(
  p_dispatcher text, p_ids bigint[], p_outcomes jsonb, p_threads text[], p_free integer, p_providers text[],
  p_default_provider text, p_priorities smallint[], p_floors timestamptz[], p_awake boolean,
  out late integer, out emptied text[], out oldest_xid xid8, out next_xid xid8,
  out claimed text, out full_house boolean, out priorities smallint[], out floors timestamptz[])
language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off set enable_hashjoin = off set enable_mergejoin = off
  set enable_material = off set jit = off set lock_timeout = '20ms'
as $$
declare
  v_snapshot pg_snapshot := pg_current_snapshot();
  v_actor text := set_config('inturn.actor', p_dispatcher, true);
  v_claim record;
  v_claimed text[];
  v_started text[];
  v_room integer := p_free;
  v_next record;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      message = 'a dispatcher needs read committed: it must see what others have committed since its last statement',
      hint = 'Set it for the role of the dispatcher: alter role … set default_transaction_isolation = ''read committed'';';
  end if;
  oldest_xid := pg_snapshot_xmin(v_snapshot);
  next_xid := pg_snapshot_xmax(v_snapshot);
  if p_awake then
    update dispatchers d set asleep = false
     where d.id = (select s.id from dispatchers s where s.id = p_dispatcher and s.asleep for update skip locked);
  end if;

  if p_ids <> '{}' then
    late := settle_operations(p_dispatcher, p_ids, p_outcomes);
  end if;
  if p_free > 0 then
    priorities := coalesce(p_priorities, head_priorities(p_providers));
    v_claim := claim_heads(p_dispatcher, p_free, p_providers, p_default_provider, priorities, p_floors);
    v_claimed := v_claim.claimed;
    v_room := p_free - v_claim.met;
    floors := v_claim.floors;
  end if;
  full_house := p_free > 0 and v_room <= 0;

  if p_threads <> '{}' then
    select * into v_next from next_in_line(p_threads);
    emptied := v_next.empty;
    if v_room > 0 and v_next.waiting <> '{}' then
      -- Nobody older waits, so the next of these lines start at once and need no mark.
      begin
        v_started := start_operations(p_dispatcher, v_next.waiting[:v_room], p_default_provider);
        v_claimed := v_claimed || v_started;
        if cardinality(v_started) = cardinality(v_next.waiting[:v_room]) then
          v_next.waiting := v_next.waiting[v_room + 1:];
        else
          -- Overtaken meanwhile by somebody who saw a busy line and did not mark himself.
          v_next.waiting := (next_in_line(p_threads)).waiting;
        end if;
      exception when unique_violation or deadlock_detected or lock_not_available then
        null; -- somebody's transaction holds one of them: all are marked below instead
      end;
    end if;
    if v_next.waiting <> '{}' and mark_heads(v_next.waiting) > 0 then
      perform wake_dispatchers();
    end if;
    if v_next.somebody_waits then
      perform notify_waiters(p_ids);
    end if;
  end if;
  claimed := '[' || coalesce(array_to_string(v_claimed, ','), '') || ']';
end $$;
