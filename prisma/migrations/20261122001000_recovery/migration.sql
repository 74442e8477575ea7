-- Recovery: outcomes nobody could settle, claims whose owner is gone or goes, and what a claim writes down.

-- Settles what its dispatcher could not because somebody's transaction held the row. Anybody may. What
-- is still held is passed over without counting, so that one transaction does not hide what others hold.
create function settle_noted(p_limit integer) returns integer language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
  set enable_hashjoin = off set enable_mergejoin = off
  set enable_material = off set jit = off set lock_timeout = '20ms'
as $$
declare
  v_note unsettled_outcomes;
  v_thread text;
  v_count integer := 0;
begin
  for v_note in select * from unsettled_outcomes order by noted_at for update skip locked loop
    select o.thread_id into v_thread from thread_operations o where o.id = v_note.operation_id for update skip locked;
    continue when not found;
    delete from unsettled_outcomes u where u.operation_id = v_note.operation_id;
    perform set_config('inturn.actor', v_note.claimed_by, true);
    if settle_operations(v_note.claimed_by, array[v_note.operation_id],
                         jsonb_build_object(v_note.operation_id, v_note.outcome)) = 0 then
      perform cancel_rest(array[v_thread]);
      perform mark_heads((next_in_line(array[v_thread])).waiting);
      perform notify_waiters(array[v_note.operation_id]);
      v_count := v_count + 1;
      exit when v_count = p_limit;
    end if;
  end loop;
  if v_count > 0 then
    perform wake_dispatchers();
  end if;
  return v_count;
end $$;

-- The session lock that a dispatcher holds on a direct connection for as long as that connection lives.
create function dispatcher_lock_key(p_dispatcher text) returns bigint language sql immutable as $$
  select hashtextextended('inturn dispatcher ' || p_dispatcher, 0)
$$;

-- Signs a dispatcher off that somebody has watched beating no more: p_beat, the seconds of beat_at as
-- text, is what has not changed. Before its lease is over only if its session lock is free, which says
-- that its connection has ended. False: it has beaten meanwhile, holds its lock, or is gone already.
create function sign_off_silent(p_dispatcher text, p_beat text, p_lease_is_over boolean) returns boolean
language plpgsql security definer set search_path from current
as $$
begin
  delete from dispatchers d
   where d.id = (select s.id from dispatchers s
                  where s.id = p_dispatcher and extract(epoch from s.beat_at)::text = p_beat
                    and (p_lease_is_over or s.direct and pg_try_advisory_xact_lock(dispatcher_lock_key(s.id)))
                    for update skip locked);
  return found;
end $$;

-- Gives back what is held by dispatchers that are not signed on. The operation stays first of its line
-- and keeps its intent and progress, so that the next dispatcher looks at the provider before it sends
-- anything. What has an outcome noted is not given back: it is done. A hold that has begun is held by no
-- dispatcher; it ends with its lease (expire_holds).
create function release_lost_operations(p_dispatcher text) returns bigint[] language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
  set enable_hashjoin = off set enable_mergejoin = off
  set enable_material = off set jit = off set lock_timeout = '20ms'
as $$
declare
  v_signed_on text[] := array(select d.id from dispatchers d);
  v_lost bigint[];
  v_released bigint[];
begin
  perform set_config('inturn.actor', p_dispatcher, true);
  v_lost := array(
    select o.id from thread_operations o
     where o.status = 'processing' and not o.claimed_by = any (v_signed_on) and o.held_until is null
       and not exists (select from unsettled_outcomes u where u.operation_id = o.id and u.attempts = o.attempts)
     limit 1000 for update skip locked);
  if v_lost <> '{}' then
    -- Look again, now that they are locked: one may have been released by somebody else meanwhile and
    -- claimed by a dispatcher that was not on the list before.
    v_signed_on := array(select d.id from dispatchers d);
    with released as (
      update thread_operations o set status = 'pending', claimed_by = null, ready_at = clock_timestamp()
       where o.id = any (v_lost) and not o.claimed_by = any (v_signed_on) and o.held_until is null
         and not exists (select from unsettled_outcomes u where u.operation_id = o.id and u.attempts = o.attempts)
      returning o.id
    )
    select array_agg(r.id) into v_released from released r;
  end if;
  if v_released is not null then
    perform wake_dispatchers();
  end if;
  return coalesce(v_released, '{}');
end $$;

-- What a dispatcher holds but for p_held, what it knows of: the answer that told of the rest is on its
-- way, or lost.
create function unheard_claims(p_dispatcher text, p_held bigint[]) returns table (id bigint, attempts integer)
language sql stable
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off
as $$
  select o.id, o.attempts from thread_operations o
   where o.status = 'processing' and o.claimed_by = p_dispatcher and not o.id = any (p_held)
     and not exists (select from unsettled_outcomes u where u.operation_id = o.id and u.attempts = o.attempts)
$$;

-- Gives back a dispatcher's own claims. Nothing failed, so it does not count as a failure.
create function give_back_operations(p_dispatcher text, p_ids bigint[], p_attempts integer[]) returns bigint[] language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
  set enable_hashjoin = off set enable_mergejoin = off
  set enable_material = off set jit = off set lock_timeout = '20ms'
as $$
declare
  v_given_back bigint[];
begin
  perform set_config('inturn.actor', p_dispatcher, true);
  with given_back as (
    update thread_operations o set status = 'pending', claimed_by = null, ready_at = clock_timestamp()
     where o.id = any (array(
             select l.id from unnest(p_ids, p_attempts) as g (id, attempts) join thread_operations l on l.id = g.id
              where l.claimed_by = p_dispatcher and l.attempts = g.attempts and l.status = 'processing' for update of l skip locked))
    returning o.id
  )
  select array_agg(g.id) into v_given_back from given_back g;
  perform wake_dispatchers();
  return coalesce(v_given_back, '{}');
end $$;

-- Writes down what a dispatcher is about to send, or what it has learned, while the claim is still its
-- own. False: it is not, and the dispatcher must not go on. Progress is merged into what is known. An
-- intent that comes without a time gets it here: the database's clock counts.
create function note_progress(p_dispatcher text, p_id bigint, p_attempts integer, p_intent jsonb, p_progress jsonb) returns boolean
language plpgsql security definer
  set search_path from current set inturn.line = 'on' set lock_timeout = '1s'
as $$
begin
  update thread_operations o
     set intent = jsonb_build_object('at', clock_timestamp()) || p_intent, progress = coalesce(o.progress, '{}') || coalesce(p_progress, '{}')
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts;
  return found;
end $$;
