-- Holds: the line as a lock for code of the caller's own. A dispatcher serves a hold as far as to its
-- turn and gives it over to whoever inserted it: held_until is set, and until then, unless it is renewed
-- or released, nobody else of the line is served.

-- Locks a hold and returns it while its caller has the thread; else says how it stands.
create function held_hold(p_id bigint) returns thread_operations language plpgsql as $$
declare
  v_hold thread_operations;
begin
  select * into v_hold from thread_operations o where o.id = p_id for update;
  if not found then
    raise check_violation using
      constraint = 'operation_exists',
      message = format('there is no operation %s', p_id),
      hint = 'Insert a hold: INSERT INTO thread_operations (thread_id, operation) VALUES (…, ''hold'') RETURNING id;';
  end if;
  if v_hold.operation <> 'hold' then
    raise check_violation using
      constraint = 'operation_is_a_hold',
      message = format('operation %s is no hold but %s', p_id, v_hold.operation),
      hint = 'Only a hold is released or renewed; dispatchers end all other operations.';
  end if;
  if v_hold.finished_at is not null then
    raise check_violation using
      constraint = 'hold_is_not_over',
      message = format('hold %s is over: %s%s', p_id, v_hold.status, ' (' || (v_hold.error ->> 'code') || ')'),
      hint = format('Others may have the thread by now: stop what you do there, and insert a new hold for %L.', v_hold.thread_id);
  end if;
  if v_hold.held_until is null then
    raise check_violation using
      constraint = 'hold_has_begun',
      message = format('hold %s is %s and does not have the thread yet', p_id, v_hold.status),
      hint = format('Wait until its held_until is set; to withdraw it while it is pending: UPDATE thread_operations SET status = ''cancelled'' WHERE id = %s;', p_id);
  end if;
  return v_hold;
end $$;

-- Ends a hold that is locked, and moves its line on; returns whether somebody is to be served now.
create function end_hold(p_id bigint, p_status text, p_error jsonb) returns boolean language plpgsql as $$
declare
  v_thread text;
begin
  update thread_operations o
     set status = p_status, place = null, claimed_by = null, held_until = null, finished_at = clock_timestamp(), error = p_error,
         result = (select jsonb_build_object('provider_thread_id', t.provider_thread_id) from threads t
                    where p_status = 'completed' and t.id = o.thread_id and t.provider_thread_id is not null)
   where o.id = p_id and o.finished_at is null
  returning o.thread_id into v_thread;
  if not found then
    return false; -- two cancel_runs meant the same hold
  end if;
  perform settle_cancellations(array[p_id]);
  perform notify_waiters(array[p_id]);
  if p_status = 'failed' then
    perform cancel_rest(array[v_thread]);
  end if;
  return mark_heads((next_in_line(array[v_thread])).waiting) > 0;
end $$;

-- Gives the thread back: the hold is completed, and the line goes on.
create function release_hold(p_id bigint) returns void language plpgsql security definer
  set search_path from current set inturn.line = 'on' set lock_timeout = '2s'
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
as $$
begin
  perform set_config('inturn.actor', session_actor(), true);
  if end_hold((held_hold(p_id)).id, 'completed', null) then
    perform wake_dispatchers();
  end if;
exception when lock_not_available or deadlock_detected then
  perform refuse_locked(format('hold %s or the next of its line', p_id));
end $$;

-- Keeps the thread for so many milliseconds from now; returns until when.
create function renew_hold(p_id bigint, p_ms integer) returns timestamptz language plpgsql security definer
  set search_path from current set inturn.line = 'on' set lock_timeout = '2s'
as $$
declare
  v_id bigint;
  v_until timestamptz;
begin
  if p_ms is null or p_ms not between 100 and 86400000 then
    raise check_violation using
      constraint = 'lease_is_a_time',
      message = format('a hold is renewed for 100 to 86400000 milliseconds, not %s', coalesce(p_ms::text, 'null')),
      hint = format('For a minute from now: SELECT renew_hold(%s, 60000);', p_id);
  end if;
  v_id := (held_hold(p_id)).id;
  update thread_operations o set held_until = clock_timestamp() + p_ms * interval '1 millisecond'
   where o.id = v_id
  returning o.held_until into v_until;
  return v_until;
exception when lock_not_available or deadlock_detected then
  perform refuse_locked(format('hold %s', p_id));
end $$;

-- Ends the holds whose lease is over; what somebody's transaction holds comes later. Returns whether
-- somebody is to be served. It looks at all that is active, so it belongs to the sweep.
create function expire_holds(p_dispatcher text) returns boolean language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
  set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off set lock_timeout = '20ms'
as $$
declare
  v_hold record;
  v_found boolean := false;
begin
  perform set_config('inturn.actor', p_dispatcher, true);
  for v_hold in
    select o.id, o.held_until from thread_operations o
     where o.status = 'processing' and o.held_until <= clock_timestamp()
     limit 100 for update skip locked
  loop
    v_found := end_hold(v_hold.id, 'failed', jsonb_build_object('code', 'hold_expired', 'message',
      format('The hold was neither released nor renewed until %s.', date_trunc('milliseconds', v_hold.held_until)))) or v_found;
  end loop;
  if v_found then
    perform wake_dispatchers();
  end if;
  return v_found;
end $$;

-- Ends the holds that a cancel_run wants ended; returns whether somebody is to be served.
create function cancel_holds(p_dispatcher text) returns boolean language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
  set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off set lock_timeout = '20ms'
as $$
declare
  v_hold record;
  v_found boolean := false;
begin
  perform set_config('inturn.actor', p_dispatcher, true);
  for v_hold in
    select o.id, cancelled_by(cancellation_of(o.id)) as error
      from thread_operations c join thread_operations o on o.id = c.target_id
     where c.status = 'pending' and c.place is null and c.operation = 'cancel_run' and o.held_until is not null
     limit 100 for update of o skip locked
  loop
    v_found := end_hold(v_hold.id, 'cancelled', v_hold.error) or v_found;
  end loop;
  if v_found then
    perform wake_dispatchers();
  end if;
  return v_found;
end $$;
