-- Rotation, fork and restore: when a thread goes on in a new provider thread, and how it gets one that
-- was filled for it. A copy is nobody's until one statement gives it away.

-- Messages that the provider thread of a thread holds, as far as its operations have added them.
create function messages_of_generation(t threads) returns bigint language sql stable as $$
  select so_far.messages - g.messages_before + g.carried_over
    from thread_generations g, thread_totals(t.id, 9223372036854775807) as so_far
   where g.thread_id = t.id and g.generation = t.generation
$$;

-- How many messages may still join the provider thread of a thread before its policy has it rotated; null:
-- any number. 0 and less: it is to be rotated.
create function room_before_rotation(t threads) returns bigint language sql stable as $$
  select least(p.max_messages - messages_of_generation(t),
               case when so_far.input_tokens + so_far.output_tokens - g.tokens_before >= p.max_tokens
                      or t.generation_since <= clock_timestamp() - p.max_age then 0 end)
    from policy_of(t.policy, t.user_id, t.session_id, t.topic) as p, thread_generations g,
         thread_totals(t.id, 9223372036854775807) as so_far
   where g.thread_id = t.id and g.generation = t.generation
$$;

create function some_policy_rotates() returns boolean language sql stable as $$
  select exists (select from thread_policies p where num_nonnulls(p.max_messages, p.max_tokens, p.max_age) > 0)
$$;

-- Whether a rotation is to be asked for: once, until that operation is over and, where it failed, for an hour.
create function is_to_rotate(t threads) returns boolean language sql stable as $$
  select t.provider_thread_id is not null and t.closed_at is null
     and not exists (
           select from thread_operations o
            where o.id = t.lifecycle_operation_id
              and (o.finished_at is null or (o.status = 'failed' and o.finished_at > clock_timestamp() - interval '1 hour')))
     and coalesce(room_before_rotation(t) <= 0, false)
$$;

-- How many messages a batch may take to the provider thread of a thread, so that it does not grow far
-- beyond where it is rotated; null: any number.
create function most_before_rotation(p_thread_id text) returns bigint language plpgsql stable as $$
declare
  v_room bigint;
begin
  if not some_policy_rotates() then
    return null;
  end if;
  select room_before_rotation(t) into v_room from threads t where t.id = p_thread_id;
  return case when v_room is not null then greatest(v_room, 1) end;
end $$;

-- Asks for a rotation of those of these threads that are over a limit of their policy, at the head of
-- their lines: whatever waits goes to the new provider thread. What somebody's transaction holds is asked
-- for when the next operation of the thread has settled. rotates: some policy does so at all; ready:
-- somebody is to be served.
create function request_rotations(p_dispatcher text, p_threads text[], out rotates boolean, out ready boolean)
language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
  set enable_hashjoin = off set enable_mergejoin = off
  set enable_material = off set jit = off set lock_timeout = '20ms'
as $$
declare
  v_thread threads;
  v_id bigint;
  v_asked text[] := '{}';
begin
  ready := false;
  rotates := some_policy_rotates();
  if not rotates then
    return;
  end if;
  perform set_config('inturn.actor', p_dispatcher, true);
  for v_thread in
    select t.* from threads t where t.id = any (p_threads) and is_to_rotate(t) for no key update skip locked
  loop
    continue when not is_to_rotate(v_thread); -- somebody else has just asked
    insert into thread_operations (thread_id, operation) values (v_thread.id, 'rotate_thread') returning id into v_id;
    -- Before all who wait; whoever is started, or is sent along with him, stands before that.
    update thread_operations o set place = -o.id where o.id = v_id;
    update threads t set lifecycle_operation_id = v_id where t.id = v_thread.id;
    -- Who was the head until now loses his mark, unless somebody's transaction holds him: then a claim sees to it.
    update thread_operations o set ready_at = null
     where o.id = (select l.id from thread_operations l
                    where l.id = (select s.id from thread_operations s
                                   where s.thread_id = v_thread.id and s.place > -v_id order by s.place limit 1)
                      and l.status = 'pending' and l.ready_at is not null and l.turn is null for update skip locked);
    v_asked := v_asked || v_thread.id;
  end loop;
  if v_asked <> '{}' then
    perform mark_heads((next_in_line(v_asked)).waiting);
    perform wake_dispatchers();
    ready := true;
  end if;
end $$;

-- A thread gets the provider thread that was filled for it, p_copy: {provider_thread_id, messages,
-- last_item_id, last_message_at, metadata, copied_from}. Gives the generation that begins with it.
create function take_copy(p_thread_id text, p_copy jsonb) returns integer language plpgsql as $$
declare
  v_generation integer;
begin
  update threads t
     set provider_thread_id = p_copy ->> 'provider_thread_id',
         last_item_id = p_copy ->> 'last_item_id',
         last_message_at = (p_copy ->> 'last_message_at')::timestamptz,
         metadata = p_copy -> 'metadata',
         updated_at = clock_timestamp(), last_active_at = clock_timestamp()
   where t.id = p_thread_id
  returning t.generation into v_generation;
  update thread_generations g
     set carried_over = (p_copy ->> 'messages')::integer, copied_from = p_copy ->> 'copied_from'
   where g.thread_id = p_thread_id and g.generation = v_generation;
  return v_generation;
end $$;

-- The thread of a claimed operation goes on in the copy that the operation has filled; its provider thread,
-- if it has one, ends as p_ended_by. Gives what is noted of it as progress; null: the claim is lost.
-- Harmless to repeat.
create function replace_provider_thread(p_dispatcher text, p_id bigint, p_attempts integer, p_ended_by text, p_copy jsonb)
returns jsonb language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set jit = off set lock_timeout = '1s'
as $$
declare
  v_operation thread_operations;
  v_thread threads;
  v_noted jsonb;
begin
  select * into v_operation from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts for update;
  if not found then
    return null;
  end if;
  v_noted := jsonb_build_object('copying', null);
  if v_operation.progress ? 'assigned' then
    return v_noted || jsonb_build_object('assigned', v_operation.progress -> 'assigned');
  end if;
  select * into v_thread from threads t where t.id = v_operation.thread_id for no key update;
  if v_thread.provider_thread_id is not null then
    update thread_generations g set ended_by = p_ended_by
     where g.thread_id = v_thread.id and g.generation = v_thread.generation;
  end if;
  v_noted := v_noted || jsonb_build_object('assigned', p_copy - 'metadata' || jsonb_build_object(
    'generation', take_copy(v_thread.id, p_copy),
    'ended', case when v_thread.provider_thread_id is not null then jsonb_build_object(
      'generation', v_thread.generation, 'provider_thread_id', v_thread.provider_thread_id) end));
  update threads t set lifecycle_operation_id = null where t.id = v_thread.id and t.lifecycle_operation_id = p_id;
  update thread_operations o set intent = null, progress = coalesce(o.progress, '{}') || v_noted where o.id = p_id;
  return v_noted;
end $$;

-- Why a thread cannot be what a fork makes; null: it can.
create function fork_target_problem(p_to text) returns text language sql stable
  set enable_seqscan = off
as $$
  select case
    when provider_of(p_to, '', '{}', null) <> '' then 'is the id of a provider thread'
    when t.closed_at is not null then 'is closed'
    when t.generation > 0 or t.provider_thread_id is not null then 'has a conversation of its own'
    when t.last_turn > 0 or (select o.turn from thread_operations o
                              where o.thread_id = p_to and o.turn is not null order by o.turn limit 1) is not null
      then 'had operations served already'
    end
    from (values (p_to)) as target (id) left join threads t on t.id = target.id
$$;

-- Another thread, on which nothing was ever started, gets the copy that a claimed operation has filled.
-- noted as of replace_provider_thread; refused: why the other thread cannot have it, and then it has not.
create function give_provider_thread(
  p_dispatcher text, p_id bigint, p_attempts integer, p_to text, p_copy jsonb, out noted jsonb, out refused text)
language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set jit = off set lock_timeout = '1s'
as $$
declare
  v_operation thread_operations;
begin
  select * into v_operation from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts for update;
  if not found then
    return;
  end if;
  noted := jsonb_build_object('copying', null);
  if v_operation.progress ? 'assigned' then
    noted := noted || jsonb_build_object('assigned', v_operation.progress -> 'assigned');
    return;
  end if;
  -- Both rows that a claim of its first operation would lock: either it is started before the look, which
  -- sees it then, or it finds the copy when it is started.
  insert into threads (id, provider) values (p_to, v_operation.provider) on conflict (id) do nothing;
  perform from threads t where t.id = p_to for update;
  perform from thread_operations o
    where o.thread_id = p_to and o.place is not null order by o.place limit 1 for update;
  refused := fork_target_problem(p_to);
  if refused is not null then
    noted := '{}';
    return;
  end if;
  update threads t
     set provider = v_operation.provider, labels = source.labels || t.labels
    from threads source where t.id = p_to and source.id = v_operation.thread_id;
  noted := noted || jsonb_build_object('assigned',
    p_copy - 'metadata' || jsonb_build_object('generation', take_copy(p_to, p_copy), 'ended', null));
  update thread_operations o set intent = null, progress = coalesce(o.progress, '{}') || noted where o.id = p_id;
end $$;
