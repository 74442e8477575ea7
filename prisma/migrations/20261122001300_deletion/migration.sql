-- Deletion: how the conversation of a thread is ended for good, in the name of the operation that does
-- it. Nothing here is done twice, whoever repeats it, and a dispatcher that lost its claim does nothing.

create function deletion_proof(g thread_generations) returns jsonb language sql immutable as $$
  select case when g.proof is not null then
    jsonb_build_object('generation', g.generation, 'provider_thread_id', g.provider_thread_id) || g.proof end
$$;

-- What is to be known before a provider thread is deleted: whether it was seen to be gone already, and
-- since when nothing of ours was written to it. No row where the thread never had such a generation.
create function deletion_facts(
  p_id bigint, p_generation integer, out provider text, out proof jsonb, out quiet_since timestamptz)
returns setof record language sql stable rows 1
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
as $$
  select g.provider, deletion_proof(g),
         least(g.ended_at, greatest(g.started_at, (
           select before.finished_at from thread_operations before
            where before.thread_id = o.thread_id and before.turn < o.turn order by before.turn desc limit 1)))
    from thread_operations o join thread_generations g on g.thread_id = o.thread_id and g.generation = p_generation
   where o.id = p_id
$$;

-- The error of what was in line, or scheduled, when the conversation was deleted; endedWithThread of
-- src/dispatcher/executor.ts says the same.
create function thread_deleted() returns jsonb language sql immutable parallel safe as $$
  select '{"code": "thread_deleted", "message": "The conversation was deleted before its turn."}'::jsonb
$$;

-- Ends the conversation of a thread, before anything of it is deleted: whatever becomes of that, no
-- operation comes into the half of one, and the next that needs a provider thread begins a new one. From now on the
-- operation is not cancelled any more. p_ended_by is `expired`, or `deleted`: then what is in line or
-- scheduled ends when its turn comes, and unless p_facts says `reopen`, nobody joins the line. p_facts is what is to stay as it was
-- decided. Gives what is noted of it as progress. Null: the claim is lost.
create function end_conversation(p_dispatcher text, p_id bigint, p_attempts integer, p_ended_by text, p_facts jsonb)
returns jsonb language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off set lock_timeout = '1s'
as $$
declare
  v_operation thread_operations;
  v_thread threads;
  v_reopens boolean := p_facts -> 'reopen';
  v_scheduled bigint[];
  v_noted jsonb;
begin
  perform set_config('inturn.actor', p_dispatcher, true);
  select * into v_operation from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts for update;
  if not found then
    return null;
  end if;
  select * into v_thread from threads t where t.id = v_operation.thread_id for no key update;
  if v_operation.progress ? 'deleting' and v_thread.provider_thread_id is null then
    return jsonb_build_object('deleting', v_operation.progress -> 'deleting');
  end if;
  update thread_generations g set ended_by = p_ended_by
   where g.thread_id = v_thread.id and g.generation = v_thread.generation and v_thread.provider_thread_id is not null;
  update threads t
     set provider_thread_id = null, last_item_id = null, last_message_at = null, metadata = '{}', updated_at = clock_timestamp()
   where t.id = v_thread.id;
  if p_ended_by = 'deleted' then
    update threads t
       set closed_at = case when not v_reopens then coalesce(t.closed_at, clock_timestamp()) end,
           deleted_at = case when not v_reopens then t.deleted_at end,
           ended_before = nextval('thread_operations_id_seq')
     where t.id = v_thread.id;
    -- What somebody's transaction holds ends when it is due.
    v_scheduled := array(
      select o.id from thread_operations o
       where o.thread_id = v_thread.id and o.turn is null and o.status = 'scheduled' and o.operation <> 'delete_thread'
         for update skip locked);
    update thread_operations o set status = 'cancelled', finished_at = clock_timestamp(), error = thread_deleted()
     where o.id = any (v_scheduled);
    perform notify_waiters(v_scheduled);
  end if;
  v_noted := jsonb_build_object('deleting', jsonb_build_object('at', clock_timestamp()) || p_facts);
  update thread_operations o set progress = coalesce(o.progress, '{}') || v_noted where o.id = p_id;
  return v_noted;
end $$;

-- Says that the conversation was deleted, once that is proved as far as it can be; with p_erase, what
-- operations and archives of the thread hold is erased next (erase_thread). False: the claim is lost.
create function finish_deletion(p_dispatcher text, p_id bigint, p_attempts integer, p_erase boolean)
returns boolean language plpgsql security definer
  set search_path from current set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set jit = off set lock_timeout = '1s'
as $$
declare
  v_operation thread_operations;
begin
  select * into v_operation from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts;
  if not found then
    return false;
  end if;
  update threads t
     set deleted_at = case when not (v_operation.progress #> '{deleting,reopen}')::boolean then coalesce(t.deleted_at, clock_timestamp()) end,
         closed_at = case when not (v_operation.progress #> '{deleting,reopen}')::boolean then coalesce(t.closed_at, clock_timestamp()) end,
         labels = case when p_erase then '{}' else t.labels end,
         erase_before = case when not p_erase then t.erase_before
                             when (v_operation.progress #> '{deleting,reopen}')::boolean then t.ended_before
                             else nextval('thread_operations_id_seq') end,
         updated_at = clock_timestamp()
   where t.id = v_operation.thread_id;
  return true;
end $$;

-- Writes down that a provider thread was seen to be gone, and how many items were deleted before it.
-- Gives the proof, the first one where there is one. Null: the claim is lost.
create function note_deletion(p_dispatcher text, p_id bigint, p_attempts integer, p_generation integer, p_items bigint)
returns jsonb language plpgsql security definer
  set search_path from current set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set jit = off set lock_timeout = '1s'
as $$
declare
  v_thread text;
  v_generation thread_generations;
begin
  select o.thread_id into v_thread from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts;
  update thread_generations g
     set deleted_at = coalesce(g.deleted_at, clock_timestamp()),
         proof = coalesce(g.proof, jsonb_build_object('items', p_items, 'gone_at', clock_timestamp()))
   where g.thread_id = v_thread and g.generation = p_generation
  returning * into v_generation;
  return deletion_proof(v_generation);
end $$;

-- A delete_thread acts at once: it stands before all who wait, behind whoever was started.
create function join_at_the_head(p_row thread_operations, p_thread_provider text) returns thread_operations language plpgsql as $$
begin
  if num_nonnulls(p_row.if_busy, p_row.debounce_ms, p_row.debounce_max_ms) > 0 then
    raise check_violation using
      constraint = 'deletion_waits_for_nobody',
      message = 'delete_thread goes before all who wait, and cancels what is active',
      hint = 'Leave if_busy, debounce_ms and debounce_max_ms out; scheduled_at may say when it is to act.';
  end if;
  if p_row.scheduled_at > p_row.created_at then
    p_row.status := 'scheduled';
    p_row.place := null;
    return p_row;
  end if;
  p_row.place := -p_row.place; -- as retry_operation does: the later, the further ahead
  if not exists (select from thread_operations o where o.thread_id = p_row.thread_id and o.place < p_row.place) then
    p_row.provider := provider_of(p_row.thread_id, p_row.operation, p_row.data, p_thread_provider);
    p_row.head_since := p_row.created_at;
    p_row.ready_at := p_row.created_at;
    perform wake_dispatchers();
  end if;
  return p_row;
end $$;

-- Has what was started before one of these deletions cancelled, unless somebody wants that already.
create function make_way(p_ids bigint[]) returns void language plpgsql as $$
begin
  insert into thread_operations (thread_id, operation, data)
  select a.thread_id, 'cancel_run', jsonb_build_object('operation_id', a.id, 'reason', format('operation %s deletes the conversation', d.id))
    from thread_operations d join thread_operations a on a.thread_id = d.thread_id and a.place = started_place()
   where d.id = any (p_ids) and d.operation = 'delete_thread' and d.status = 'pending'
     and a.id <> d.id and a.operation <> 'delete_thread' and cancellation_of(a.id) is null;
end $$;

-- Says why a thread takes no operation.
create function refuse_closed(p_thread_id text) returns void language plpgsql as $$
declare
  v_what text;
begin
  select case when t.deleted_at is not null then 'was deleted'
              when exists (select from thread_operations o where o.thread_id = t.id and o.place = started_place()
                              and o.operation = 'delete_thread') then 'is being deleted' end
    into v_what from threads t where t.id = p_thread_id;
  raise check_violation using
    constraint = 'thread_is_open',
    message = case when v_what is null then format('thread %s is closed and takes no more operations', p_thread_id)
                   else format('the conversation of thread %s %s, and it takes no more operations', p_thread_id, v_what) end,
    hint = case when v_what is null
      then 'Use another thread_id, or ask whoever closed the thread (threads.closed_at) to open it again.'
      else format('Use another thread_id, or begin a new conversation under this one once it is deleted: SELECT reopen_thread(%L);', p_thread_id) end;
end $$;

-- Opens a thread again that was closed, by a deletion or by hand. What was in line when its conversation
-- was deleted ends all the same; what comes now begins a new one.
create function reopen_thread(p_thread_id text) returns void language plpgsql security definer
  set search_path from current set lock_timeout = '2s' set enable_seqscan = off
as $$
declare
  v_thread threads;
  v_deletion bigint;
begin
  select * into v_thread from threads t where t.id = p_thread_id for no key update;
  if v_thread.closed_at is null then
    raise check_violation using
      constraint = 'thread_is_closed',
      message = case when v_thread.id is null then format('there is no thread %s', p_thread_id)
                     else format('thread %s is open', p_thread_id) end,
      hint = 'Nothing is to be done: its next operation is served.';
  end if;
  select o.id into v_deletion from thread_operations o
   where o.thread_id = p_thread_id and o.place is not null and o.operation = 'delete_thread' order by o.place limit 1;
  if v_deletion is not null then
    raise check_violation using
      constraint = 'deletion_is_over',
      message = format('operation %s is about to delete the conversation of thread %s', v_deletion, p_thread_id),
      hint = 'Open the thread when that operation is final, or cancel it before it begins.';
  end if;
  update threads t
     set closed_at = null, deleted_at = null, updated_at = clock_timestamp(),
         ended_before = case when t.deleted_at is not null then nextval('thread_operations_id_seq') else t.ended_before end
   where t.id = p_thread_id;
exception when lock_not_available or deadlock_detected then
  perform refuse_locked(format('thread %s', p_thread_id));
end $$;

-- What a delete_thread does where it says nothing itself, and whether its thread was closed before.
create function deletion_defaults(p_thread_id text, out archives boolean, out reopens boolean)
language sql stable as $$
  select coalesce(p.archive_on_delete, false), coalesce(p.reopen, false) and t.closed_at is null
    from threads t left join lateral policy_of(t.policy, t.user_id, t.session_id, t.topic) as p on true
   where t.id = p_thread_id
$$;
