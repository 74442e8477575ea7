-- Moving a line on: who is next, marking him, and what happens when a waiting head is cancelled.

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
       where o.thread_id = line.thread_id and o.place is not null
       order by o.place limit 1) as head on true
$$;

-- Marks these operations as heads, except in lines that are halted and what somebody's transaction
-- holds; the sweep comes back for it.
create function mark_heads(p_ids bigint[]) returns integer language plpgsql as $$
declare
  v_marked integer;
begin
  update thread_operations o
     set head_since = coalesce(o.head_since, clock_timestamp()),
         ready_at = clock_timestamp(),
         provider = provider_of(o.thread_id, o.operation, o.data, head.provider)
    from (select l.id, t.provider from thread_operations l
            left join threads t on t.id = l.thread_id
           where l.id = any (p_ids) and l.status = 'pending' and l.ready_at is null
             and (t.on_failure is distinct from 'halt' or l.operation = 'delete_thread' or not line_is_halted(l.thread_id))
             for update of l skip locked) as head
   where o.id = head.id;
  get diagnostics v_marked = row_count;
  return v_marked;
end $$;

-- Whoever cancels a waiting head by a plain UPDATE moves its line on.
create function move_on_after_cancel() returns trigger language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
  set enable_hashjoin = off set enable_mergejoin = off
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
  perform close_tool_calls(v_ids);
  perform notify_waiters(v_ids);
  return null;
end $$;

create trigger z_move_on_after_cancel after update on thread_operations
  referencing new table as new_rows for each statement
  when (current_setting('inturn.line', true) is distinct from 'on')
  execute function move_on_after_cancel();
