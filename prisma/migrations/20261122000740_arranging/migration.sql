-- Arranging a line before its head is started: who is merged, superseded, refused after all, or debounces.
-- Only lines where somebody waits with such a wish are looked at. What was started, was sent back by an
-- operator or has something under way stays as it is; what somebody's transaction holds is left.

-- Those who wait and whose wishes concern others who wait, or the time. Almost always empty.
create index operations_to_arrange on thread_operations (thread_id, if_busy, place)
  where place is not null and turn is null
    and (if_busy in ('reject', 'latest', 'merge', 'interrupt+merge') or debounce_ms is not null);

-- The lines of these heads that are to be arranged, perhaps twice; null: none. One probe for each, for
-- which the order by leaves no other index. (A `distinct` would be met by walking an index of all threads.)
create function lines_to_arrange(p_heads bigint[]) returns text[] language sql stable as $$
  select array_agg(h.thread_id) from thread_operations h
   where h.id = any (p_heads)
     and (select o.id from thread_operations o
           where o.thread_id = h.thread_id and o.place is not null and o.turn is null
             and (o.if_busy in ('reject', 'latest', 'merge', 'interrupt+merge') or o.debounce_ms is not null)
           order by o.if_busy, o.place limit 1) is not null
$$;

create function end_waiting(p_ids bigint[], p_status text, p_error jsonb) returns void language plpgsql as $$
begin
  update thread_operations o
     set status = p_status, place = null, ready_at = null, finished_at = clock_timestamp(), error = p_error
   where o.id = any (p_ids);
  perform notify_waiters(p_ids);
end $$;

-- Refuses those who do not wait and stand behind somebody: their INSERTs overlapped and did not see him.
create function refuse_behind(p_first thread_operations) returns void language plpgsql as $$
declare
  v_ids bigint[];
begin
  v_ids := array(
    select o.id from thread_operations o
     where o.thread_id = p_first.thread_id and o.place is not null and o.turn is null and o.if_busy = 'reject'
       and o.place > p_first.place and o.place = o.id
     order by o.place limit 1000 for update skip locked);
  if v_ids <> '{}' then
    perform end_waiting(v_ids, 'failed', busy_error(p_first.id));
  end if;
end $$;

-- The same for the first of a line: whether it came while one before it was being served, and is refused.
create function refuse_late(p_first thread_operations) returns boolean language plpgsql as $$
declare
  v_last bigint;
begin
  if p_first.if_busy is distinct from 'reject' or p_first.place <> p_first.id then
    return false;
  end if;
  select last.id into v_last
    from (select o.id, o.finished_at from thread_operations o
           where o.thread_id = p_first.thread_id and o.turn is not null order by o.turn desc limit 1) as last
   where last.id < p_first.id and last.finished_at > p_first.created_at;
  if v_last is not null then
    perform end_waiting(array[p_first.id], 'failed', busy_error(v_last));
  end if;
  return v_last is not null;
end $$;

-- Whether the first of a line, which waits for a pause, must wait longer; marks it for then. It waits
-- until the newest operation of the line is debounce_ms old, and never longer than debounce_max_ms.
create function still_debounces(p_first thread_operations) returns boolean language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
  v_due timestamptz;
begin
  select least(greatest(newest.created_at, newest.scheduled_at) + p_first.debounce_ms * interval '1 millisecond',
               greatest(p_first.created_at, p_first.scheduled_at) + p_first.debounce_max_ms * interval '1 millisecond')
    into v_due
    from (select o.created_at, o.scheduled_at from thread_operations o
           where o.thread_id = p_first.thread_id and o.place is not null order by o.place desc limit 1) as newest;
  -- Later than that only by a clock that was set back.
  if v_due <= v_now or v_due > v_now + p_first.debounce_ms * interval '1 millisecond' then
    return false;
  end if;
  perform mark_heads(array[p_first.id]);
  update thread_operations o set ready_at = v_due where o.id = p_first.id and o.ready_at is not null;
  return true;
end $$;

-- Supersedes the messages and runs that wait before the last `latest` of the line, 1000 at a time;
-- returns how many.
create function supersede_waiting(p_thread_id text) returns integer language plpgsql as $$
declare
  v_latest record;
  v_ids bigint[];
begin
  select o.id, o.place into v_latest from thread_operations o
   where o.thread_id = p_thread_id and o.place is not null and o.turn is null and o.if_busy = 'latest'
   order by o.place desc limit 1;
  if not found then
    return 0;
  end if;
  v_ids := array(
    select o.id from thread_operations o
     where o.thread_id = p_thread_id and o.place is not null and o.place < v_latest.place and o.turn is null
       and o.operation in ('add_message', 'create_run', 'add_message_and_run') and num_nonnulls(o.intent, o.progress) = 0
     order by o.place limit 1000 for update skip locked);
  perform end_waiting(v_ids, 'cancelled', jsonb_build_object('code', 'superseded', 'operation_id', v_latest.id,
    'message', format('Operation %s came after it, and supersedes those who wait.', v_latest.id)));
  return cardinality(v_ids);
end $$;

-- The operation that takes along the messages of the first of this line and of those directly behind it:
-- the last run among them that merges, of up to 100. Whose content is not just a message can only be the
-- last of them; what is no message or not free ends the group before it. Null: nobody takes any along.
create function merge_waiting(p_first thread_operations) returns bigint language plpgsql as $$
declare
  v_row record;
  v_most integer := 100;
  v_group bigint[];
  v_size integer;
  v_free bigint[];
  v_last bigint;
begin
  loop
    v_group := '{}';
    v_size := 0;
    for v_row in
      select o.id, o.operation, o.if_busy, num_nonnulls(o.turn, o.intent, o.progress) = 0 as is_untouched,
             o.operation = 'create_run' or o.data ?| '{input, additional_messages, provider_options}' as is_last
        from thread_operations o
       where o.thread_id = p_first.thread_id and o.place >= p_first.place order by o.place limit v_most
    loop
      exit when not v_row.is_untouched or v_row.operation not in ('add_message', 'create_run', 'add_message_and_run');
      v_group := v_group || v_row.id;
      if v_row.operation <> 'add_message' and 'merge_waiting' = any (when_busy(v_row.if_busy, 'others wait')) then
        v_size := cardinality(v_group);
      end if;
      exit when v_row.is_last;
    end loop;
    if v_size < 2 then
      return null;
    end if;
    v_group := v_group[:v_size];
    v_free := array(
      select o.id from thread_operations o
       where o.id = any (v_group) and o.place is not null and num_nonnulls(o.turn, o.intent, o.progress) = 0
         for update skip locked);
    exit when cardinality(v_free) = v_size;
    -- Before the first that somebody's transaction holds.
    select min(g.n) - 1 into v_most from unnest(v_group) with ordinality as g (id, n) where not g.id = any (v_free);
  end loop;

  v_last := v_group[v_size];
  v_group := v_group[:v_size - 1];
  update thread_operations o
     set merges = o.merges || array(
           select taken.id from unnest(v_group) with ordinality as g (id, n)
             join thread_operations w on w.id = g.id
            cross join lateral unnest(w.merges || w.id) with ordinality as taken (id, n)
            order by g.n, taken.n)
   where o.id = v_last;
  perform end_waiting(v_group, 'cancelled', jsonb_build_object('code', 'merged', 'operation_id', v_last,
    'message', format('Its message goes to the provider with operation %s, whose run answers it.', v_last)));
  return v_last;
end $$;

-- Arranges a line. Returns the operation that may be started now; null: nobody may.
create function arrange_line(p_thread_id text) returns bigint language plpgsql as $$
declare
  v_first thread_operations;
  v_is_quiet boolean := false;
  v_superseded integer;
begin
  loop
    select * into v_first from thread_operations o
     where o.thread_id = p_thread_id and o.place is not null order by o.place limit 1;
    if not found then
      return null;
    end if;
    perform refuse_behind(v_first);
    if v_first.turn is not null then
      return case when v_first.status <> 'processing' and v_first.ready_at <= clock_timestamp() then v_first.id end;
    end if;
    perform from thread_operations o
      where o.id = v_first.id and o.place is not null and o.turn is null for update skip locked;
    if not found then
      return null;
    end if;
    if not may_start(v_first.id) then
      return v_first.id; -- which start_operations refuses, and the claim sees to it
    end if;
    continue when refuse_late(v_first);
    -- Whoever takes the place of the first has waited long enough with it.
    if v_first.debounce_ms is not null and not v_is_quiet and still_debounces(v_first) then
      return null;
    end if;
    v_is_quiet := true;
    v_superseded := supersede_waiting(p_thread_id);
    if v_superseded = 1000 then
      perform mark_heads((next_in_line(array[p_thread_id])).waiting);
      return null;
    end if;
    continue when v_superseded > 0;
    return coalesce(merge_waiting(v_first), v_first.id);
  end loop;
end $$;

-- These heads, which are about to be started, or whoever takes their places.
create function arranged(p_heads bigint[]) returns bigint[] language plpgsql as $$
declare
  v_lines text[] := lines_to_arrange(p_heads);
begin
  if v_lines is null then
    return p_heads;
  end if;
  return array(select o.id from thread_operations o where o.id = any (p_heads) and not o.thread_id = any (v_lines))
      || array_remove(array(
           select arrange_line(line.thread_id) from (select distinct unnest(v_lines)) as line (thread_id)), null);
end $$;
