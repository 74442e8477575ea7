-- What an operator does after a failure: let a line go on, or have an operation served again. They wait
-- two seconds at most for somebody's open transaction, and say so then. Both lock the operation first and
-- its thread last, as a DELETE of the operation does.

-- Says what holds up an operator, instead of PostgreSQL's words.
create function refuse_locked(p_what text) returns void language plpgsql as $$
begin
  raise lock_not_available using
    constraint = 'nobody_holds_the_row',
    message = format('%s is held by somebody''s open transaction, and nothing was changed', p_what),
    hint = 'Try again. If it stays so, look for the oldest xact_start in pg_stat_activity.';
end $$;

-- Lets a line go on that waits for an operator: an operation that is held is served again at once, a
-- halted line goes on behind the failed operation. Returns which operation it was about, and whether it
-- was `held` or `halted`. To an operation that is held because the outcome of its call is unknown, it
-- says that the call took no effect, so that it is sent again where nothing is found of it.
create function resume_thread(p_thread_id text, out operation_id bigint, out was text)
language plpgsql security definer
  set search_path from current set inturn.line = 'on' set lock_timeout = '2s'
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
as $$
declare
  v_turn bigint;
begin
  perform set_config('inturn.actor', session_actor(), true);
  select o.id, 'held' into operation_id, was
    from thread_operations o
   where o.id = (select f.id from thread_operations f
                  where f.thread_id = p_thread_id and f.place is not null order by f.place limit 1)
     and o.ready_at = never() for update;
  if found then
    update thread_operations o
       set ready_at = clock_timestamp(),
           intent = case when o.error ->> 'code' = 'outcome_unknown' then o.intent || '{"resend": true}' else o.intent end
     where o.id = operation_id;
    perform wake_dispatchers();
  else
    select failure.operation_id, 'halted' into operation_id, was
      from unresumed_failure(p_thread_id) as failure where failure.on_failure = 'halt';
    perform from thread_operations o where o.id = operation_id for update;
    -- Once more, now that nobody else can resume the line or send the operation back.
    select failure.turn into v_turn
      from unresumed_failure(p_thread_id) as failure
     where failure.on_failure = 'halt' and failure.operation_id = resume_thread.operation_id;
    if not found then
      raise check_violation using
        constraint = 'thread_waits_for_an_operator',
        message = format('thread %s is neither halted nor is an operation of it held', p_thread_id),
        hint = 'Those that wait for you: SELECT * FROM thread_states WHERE state IN (''halted'', ''held'');';
    end if;
    update threads t set resumed_turn = v_turn where t.id = p_thread_id; -- its trigger marks the head
  end if;
  -- The status stays, so no trigger records it.
  insert into operation_events (operation_id, thread_id, from_status, to_status, turn, attempt, actor, run_id)
  select o.id, o.thread_id, o.status, o.status, o.turn, o.attempts, session_actor(), o.progress ->> 'run_id'
    from thread_operations o where o.id = operation_id;
exception when lock_not_available or deadlock_detected then
  perform refuse_locked(format('thread %s', p_thread_id));
end $$;

-- Whether an operation has done what it did in a conversation that its thread has no more, and is not
-- the one that deletes it.
create function worked_elsewhere(p_row thread_operations, p_provider_thread_id text) returns boolean language sql stable as $$
  select not coalesce(p_row.progress ? 'deleting' or p_row.progress ->> 'provider_thread_id' = p_provider_thread_id, false)
     and exists (
       select from thread_generations g
        where g.thread_id = p_row.thread_id
          and g.ended_at > coalesce(p_row.started_at, (
                select max(e.at) from operation_events e
                 where e.thread_id = p_row.thread_id and e.operation_id = p_row.id and e.to_status = 'processing')))
$$;

-- Sends a failed or cancelled operation back into its line, to the `head` (before all who wait, behind
-- whoever was started) or the `tail`; the only way back from a final status. It draws a new turn when it
-- starts; its attempts count on, and what is known of it at the provider is kept, so that no message is
-- added twice: a run that has ended is not followed but replaced. What it did in a conversation that the
-- thread has no more is forgotten. sent_back is the turn that it had first:
-- where others are served before it starts again, what stands behind its message is theirs. Returns its
-- thread and place.
create function retry_operation(p_id bigint, p_at text, out thread_id text, out place bigint)
language plpgsql security definer
  set search_path from current set inturn.line = 'on' set lock_timeout = '2s'
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
as $$
#variable_conflict use_column
declare
  v_old thread_operations;
  v_thread threads;
  v_known jsonb;
begin
  if p_at is null or p_at not in ('head', 'tail') then
    raise check_violation using
      constraint = 'place_is_head_or_tail',
      message = format('an operation goes back to the head or the tail of its line, not to %L', p_at),
      hint = format('Write SELECT retry_operation(%s, ''head''), or ''tail''.', p_id);
  end if;
  perform set_config('inturn.actor', session_actor(), true);
  select * into v_old from thread_operations o where o.id = p_id for update;
  if not found then
    raise check_violation using
      constraint = 'operation_exists',
      message = format('there is no operation %s', p_id),
      hint = 'The failed ones: SELECT id, thread_id, failed_at, code FROM dead_letters;';
  end if;
  if v_old.operation in ('cancel_run', 'submit_tool_outputs') then
    raise check_violation using
      constraint = 'only_what_stood_in_line_goes_back',
      message = format('operation %s is a %s, which stands in no line', p_id, v_old.operation),
      hint = 'To ask for the same once more, insert a new one.';
  end if;
  if v_old.status not in ('failed', 'cancelled') then
    raise check_violation using
      constraint = 'only_failed_and_cancelled_go_back',
      message = format('operation %s is %s: only what failed or was cancelled goes back into its line', p_id, v_old.status),
      hint = case when v_old.status = 'completed' then 'To have the same done once more, insert a new operation.'
                  when v_old.ready_at = never() then format('It is held: SELECT resume_thread(%L) has it served now.', v_old.thread_id)
                  else 'It is in its line already, and is served in its turn.' end;
  end if;
  if v_old.error ->> 'code' = 'merged' then
    raise check_violation using
      constraint = 'merged_operation_is_not_retried',
      message = format('operation %s was merged: its message went along with operation %s', p_id, v_old.error ->> 'operation_id'),
      hint = format('Send that one back instead: SELECT retry_operation(%s, %L);', v_old.error ->> 'operation_id', p_at);
  end if;
  if v_old.progress ? 'erased' then
    raise check_violation using
      constraint = 'erased_operation_is_not_retried',
      message = format('what operation %s was to do was erased', p_id),
      hint = 'Insert a new operation instead.';
  end if;
  select * into v_thread from threads t where t.id = v_old.thread_id;
  if v_thread.closed_at is not null and v_old.operation <> 'delete_thread' then
    perform refuse_closed(v_old.thread_id);
  end if;

  thread_id := v_old.thread_id;
  place := nextval('thread_operations_id_seq');
  if p_at = 'head' then
    place := -place; -- the later, the further ahead; whoever is started stands before that
  end if;
  -- Its turn leaves with it, and is never given again.
  if v_old.turn is not null then
    insert into threads (id, last_turn) values (v_old.thread_id, v_old.turn)
        on conflict (id) do update set last_turn = excluded.last_turn where threads.last_turn < excluded.last_turn;
  end if;
  if not worked_elsewhere(v_old, v_thread.provider_thread_id) then
    v_known := jsonb_build_object('sent_back', v_old.turn) || v_old.progress
      - '{run_id, run_since, answered, asked, abandoned, stopping, foreign_run, missing, repaired, overwritten}'::text[]
      || case when v_old.progress ? 'run_id' then jsonb_build_object('failed_run_ids',
           coalesce(v_old.progress -> 'failed_run_ids', '[]') - (v_old.progress ->> 'run_id') || (v_old.progress -> 'run_id'))
         else '{}' end
      || case when v_thread.generation > 0 then jsonb_build_object('generation', v_thread.generation) else '{}' end;
    v_old.intent := v_old.intent || '{"sent_back": true}';
  else
    v_old.intent := null;
  end if;
  if v_old.id < v_thread.ended_before then
    v_known := coalesce(v_known, '{}') || jsonb_build_object('rejoined', abs(retry_operation.place));
  end if;
  update thread_operations o
     set status = 'pending', place = retry_operation.place, turn = null, provider = '', head_since = null, ready_at = null,
         if_busy = null, debounce_ms = null, debounce_max_ms = null, -- it stands where the operator has put it
         intent = v_old.intent, progress = v_known, failures = 0, started_at = null, finished_at = null, result = null, error = null
   where o.id = p_id;
  -- Who was the head until now loses his mark, unless somebody's transaction holds him: then a claim sees to it.
  update thread_operations o set ready_at = null
   where o.id = (select l.id from thread_operations l
                  where l.id = (select s.id from thread_operations s
                                 where s.thread_id = v_old.thread_id and s.place is not null order by s.place offset 1 limit 1)
                    and l.status = 'pending' and l.ready_at is not null and l.turn is null for update skip locked);
  if v_old.operation = 'delete_thread' then
    perform make_way(array[p_id]);
  end if;
  if mark_heads((next_in_line(array[v_old.thread_id])).waiting) > 0 then
    perform wake_dispatchers();
  end if;
exception when lock_not_available or deadlock_detected then
  perform refuse_locked(format('operation %s or its thread', p_id));
end $$;
