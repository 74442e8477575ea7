-- Scheduled operations: they stand in no line and are in nobody's way until their time has come.

-- Has those join the tails of their lines that are due, in the order of their times. What somebody's
-- transaction holds joins later. A thread that was closed meanwhile takes them no more. Returns whether
-- somebody is to be served.
create function join_scheduled(p_dispatcher text) returns boolean language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set lock_timeout = '20ms'
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_due bigint[];
  v_threads text[];
begin
  v_due := array(
    select o.id from thread_operations o where o.status = 'scheduled' and o.scheduled_at <= v_now
     order by o.scheduled_at, o.id limit 1000 for update skip locked);
  if v_due = '{}' then
    return false;
  end if;
  perform set_config('inturn.actor', p_dispatcher, true);
  update thread_operations o
     set status = 'cancelled', finished_at = clock_timestamp(),
         error = case when t.deleted_at is not null then thread_deleted()
                 else '{"code": "thread_closed", "message": "The thread was closed before the operation was due."}' end
    from threads t
   where o.id = any (v_due) and t.id = o.thread_id and t.closed_at is not null and o.operation <> 'delete_thread';
  -- The places are drawn in the order of the times, not of the rows.
  with joining as (
    select due.id, nextval('thread_operations_id_seq') as place
      from unnest(v_due) with ordinality as due (id, n) order by due.n
  )
  update thread_operations o set status = 'pending', place = case o.operation when 'delete_thread' then -j.place else j.place end
    from joining j where o.id = j.id and o.status = 'scheduled';
  perform arrive_when_due(due.id) from (
    select o.id from thread_operations o
     where o.id = any (v_due) and o.status = 'pending' and o.if_busy in ('reject', 'interrupt', 'interrupt+merge')
     order by o.place) as due;
  perform make_way(v_due);
  perform notify_waiters(v_due);
  v_threads := array(select distinct o.thread_id from thread_operations o where o.id = any (v_due));
  if mark_heads((next_in_line(v_threads)).waiting) = 0 then
    return false;
  end if;
  perform wake_dispatchers();
  return true;
end $$;
