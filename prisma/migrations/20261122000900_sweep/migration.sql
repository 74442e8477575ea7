-- The sweep: the safety net for lines that nobody marked.

-- Looks at up to p_limit waiting threads after p_after, in the order of their ids, and makes sure that
-- the first operation of each is marked. A loose index scan over the threads, never over their backlogs.
-- last_thread is null when the round is over.
create function sweep_lines(p_dispatcher text, p_after text, p_limit integer, out last_thread text, out seen integer, out marked integer)
language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
  set enable_hashjoin = off set enable_mergejoin = off
  set enable_material = off set jit = off set lock_timeout = '20ms'
as $$
declare
  v_threads text[];
begin
  perform set_config('inturn.actor', p_dispatcher, true);
  with recursive waiting as (
    (select o.thread_id, 1 as n from thread_operations o
      where o.place is not null and o.thread_id > p_after order by o.thread_id, o.place limit 1)
    union all
    select (select o.thread_id from thread_operations o
             where o.place is not null and o.thread_id > w.thread_id order by o.thread_id, o.place limit 1), w.n + 1
      from waiting w where w.thread_id is not null and w.n < p_limit
  )
  select array_agg(w.thread_id) into v_threads from waiting w where w.thread_id is not null;
  seen := coalesce(cardinality(v_threads), 0);
  last_thread := case when seen = p_limit then v_threads[seen] end;
  marked := 0;
  if seen = 0 then
    return;
  end if;
  marked := mark_heads((next_in_line(v_threads)).waiting);

  -- A mark in the future that no retry and no pause explains, or a row from the future: the clock was set back.
  with pulled_back as (
    update thread_operations o set ready_at = clock_timestamp()
     where o.id = any (array(
             select h.id from thread_operations h
              where h.id = any (array(
                      select (select f.id from thread_operations f
                               where f.thread_id = line.thread_id and f.place is not null order by f.place limit 1)
                        from unnest(v_threads) as line (thread_id)))
                and h.ready_at > clock_timestamp() + interval '1 second' and h.ready_at <> never()
                and (h.debounce_ms is null or h.turn is not null
                     or h.ready_at > clock_timestamp() + h.debounce_ms * interval '1 millisecond')
                and (h.attempts = 0 or h.updated_at > clock_timestamp() + interval '1 second')
                for update skip locked))
    returning 1
  )
  select marked + count(*) into marked from pulled_back;
  if marked > 0 then
    perform wake_dispatchers();
  end if;
end $$;
