-- Beside the line: what acts on the operation that is being served does not wait behind it. It has no
-- place and no turn, and no dispatcher claims it; all look for it every few heartbeats, and when told.
-- A cancel_run stays pending until the operation that it is about, its target, is over.

-- Binds it to its target now, so that it never meets the next one. No lock is taken on the target: who
-- holds it is told afterwards.
create function join_beside_the_line(p_row thread_operations) returns thread_operations language plpgsql as $$
begin
  if p_row.scheduled_at > p_row.created_at or num_nonnulls(p_row.if_busy, p_row.debounce_ms, p_row.debounce_max_ms) > 0 then
    raise check_violation using
      constraint = 'beside_the_line_acts_at_once',
      message = format('%s acts at once and waits for nobody', p_row.operation),
      hint = 'Leave scheduled_at, if_busy, debounce_ms and debounce_max_ms out, and insert it when it is to act.';
  end if;
  p_row.place := null;
  p_row.target_id := (p_row.data ->> 'operation_id')::numeric;
  if p_row.target_id is not null then
    perform refuse_target(p_row.target_id, p_row.thread_id);
  else
    p_row.target_id := (select o.id from thread_operations o
                         where o.thread_id = p_row.thread_id and o.place = started_place());
  end if;
  if p_row.operation = 'submit_tool_outputs' then
    perform check_tool_outputs(p_row);
  end if;
  perform pg_notify('inturn_beside', current_schema());
  return p_row;
end $$;

-- Says what is wrong with the operation that a cancel_run names, if anything is.
create function refuse_target(p_id bigint, p_thread_id text) returns void language plpgsql as $$
declare
  v_target thread_operations;
begin
  select * into v_target from thread_operations o where o.id = p_id;
  if v_target.thread_id is distinct from p_thread_id then
    raise check_violation using
      constraint = 'target_is_of_the_thread',
      message = format('there is no operation %s on thread %s', p_id, p_thread_id),
      hint = 'Leave operation_id out to cancel what is active, or write one of: '
             || format('SELECT id, operation, status FROM thread_operations WHERE thread_id = %L;', p_thread_id);
  end if;
  if v_target.operation in ('cancel_run', 'submit_tool_outputs') then
    raise check_violation using
      constraint = 'target_stands_in_line',
      message = format('operation %s is a %s and has no run to cancel', p_id, v_target.operation),
      hint = format('To withdraw it while it is pending: UPDATE thread_operations SET status = ''cancelled'' WHERE id = %s;', p_id);
  end if;
end $$;

-- The oldest wish to have an operation cancelled, if there is one.
create function cancellation_of(p_id bigint) returns jsonb language sql stable as $$
  select jsonb_build_object('operation_id', c.id, 'interrupted_by', c.data -> 'interrupted_by', 'reason', c.data -> 'reason')
    from thread_operations c
   where c.target_id = p_id and c.status = 'pending' and c.place is null and c.operation = 'cancel_run'
   order by c.id limit 1
$$;

-- The error of what was cancelled because of it; cancelledBy of src/operations/cancelling.ts says the same.
create function cancelled_by(p_cancellation jsonb) returns jsonb language sql immutable as $$
  select case
    when p_cancellation ->> 'interrupted_by' is null
      then jsonb_build_object('code', 'cancelled', 'operation_id', p_cancellation -> 'operation_id', 'message',
             format('Cancelled by operation %s', p_cancellation -> 'operation_id') || said.reason)
    else jsonb_build_object('code', 'interrupted', 'operation_id', p_cancellation -> 'interrupted_by', 'message',
           format('Interrupted by operation %s', p_cancellation -> 'interrupted_by') || said.reason)
    end
    from (select coalesce(': ' || (p_cancellation ->> 'reason'), '.') as reason) as said
   where p_cancellation is not null
$$;

-- Whether an operation has something at the provider that is to be brought to its end: a call of
-- unknown outcome, a run that may go on, an answer that was found, tool calls, or all that it was to do;
-- also one that was not started, whose message is sent along. isBegun of
-- src/operations/cancelling.ts says the same.
create function is_under_way(o thread_operations) returns boolean language sql immutable as $$
  select is_sent_along(o) or o.turn is not null and coalesce(
              o.intent ->> 'call' not in ('create_thread', 'copy_items')
           or o.progress ->> 'copying' is not null
           or (o.progress ? 'run_id' and not coalesce(o.progress -> 'failed_run_ids', '[]') ? (o.progress ->> 'run_id'))
           or o.progress ->> 'answered' is not null
           or o.progress ? 'asked'
           or o.progress ? case o.operation when 'add_message' then 'message_id'
                                            when 'create_thread' then 'provider_thread_id'
                                            when 'update_thread' then 'overwritten'
                                            when 'archive_thread' then 'archived'
                                            when 'delete_thread' then 'deleting'
                                            when 'expire_thread' then 'deleting'
                                            when 'rotate_thread' then 'assigned'
                                            when 'fork_thread' then 'assigned'
                                            when 'restore_thread' then 'assigned' end,
         false)
$$;

-- Whether a started operation that is interrupted has messages that are not known to be in the thread,
-- where they are to stay. owesMessages of src/operations/cancelling.ts says the same.
create function owes_messages(o thread_operations, p_cancel thread_operations) returns boolean language sql immutable as $$
  select o.turn is not null and p_cancel.data ? 'interrupted_by' and not coalesce(o.progress ? 'message_id', false)
     and (o.operation = 'add_message_and_run'
          or coalesce(cardinality(o.merges), 0) > jsonb_array_length(coalesce(o.progress -> 'merged_message_ids', '[]')))
$$;

-- Completes the cancel_runs of these operations, as far as they are over. What somebody's transaction
-- holds is completed by take_cancellations.
create function settle_cancellations(p_targets bigint[]) returns void language plpgsql as $$
declare
  v_ids bigint[];
begin
  v_ids := array(
    select c.id from thread_operations c
     where c.target_id = any (p_targets) and c.status = 'pending' and c.place is null and c.operation = 'cancel_run'
       for update skip locked);
  update thread_operations c
     set status = 'completed', finished_at = clock_timestamp(),
         result = jsonb_build_object('outcome', o.status, 'operation_id', o.id)
    from thread_operations o
   where c.id = any (v_ids) and o.id = c.target_id and o.finished_at is not null;
  perform notify_waiters(v_ids);
end $$;

-- What all dispatchers do for the cancel_runs that there are. wanted are the operations that this one
-- executes, and who wants them cancelled: {"7": {operation_id, interrupted_by, reason}}. One that nobody
-- executes is withdrawn where nothing of it is under way or to be kept; else it is ready at once, so that whoever claims
-- it ends what is. A cancel_run whose target was over, or that had none, is done. ready says whether
-- somebody is to be served. What somebody's transaction holds waits for the next time.
create function take_cancellations(p_dispatcher text, out wanted jsonb, out ready boolean)
language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
  set enable_hashjoin = off set enable_mergejoin = off
  set enable_material = off set jit = off set lock_timeout = '20ms'
as $$
declare
  v_withdrawn bigint[];
  v_woken bigint[];
  v_done bigint[];
begin
  wanted := '{}';
  ready := false;
  if not exists (select from thread_operations c
                  where c.status = 'pending' and c.place is null and c.operation = 'cancel_run') then
    return;
  end if;
  perform set_config('inturn.actor', p_dispatcher, true);

  select coalesce(jsonb_object_agg(o.id, cancellation_of(o.id)), '{}') into wanted
    from thread_operations c join thread_operations o on o.id = c.target_id
   where c.status = 'pending' and c.place is null and c.operation = 'cancel_run'
     and o.status = 'processing' and o.claimed_by = p_dispatcher;

  v_withdrawn := array(
    select o.id from thread_operations c join thread_operations o on o.id = c.target_id
     where c.status = 'pending' and c.place is null and c.operation = 'cancel_run'
       and o.status in ('pending', 'scheduled') and not is_under_way(o) and not owes_messages(o, c)
     limit 1000 for update of o skip locked);
  if v_withdrawn <> '{}' then
    update thread_operations o
       set status = 'cancelled', place = null, ready_at = null, finished_at = clock_timestamp(),
           error = cancelled_by(cancellation_of(o.id)),
           -- A message that was added without its run stays.
           result = case when o.turn is not null and o.progress ? 'message_id' then jsonb_build_object(
                      'provider_thread_id', (select t.provider_thread_id from threads t where t.id = o.thread_id),
                      'message_id', o.progress -> 'message_id') end
     where o.id = any (v_withdrawn);
    perform settle_cancellations(v_withdrawn);
    perform notify_waiters(v_withdrawn);
    ready := mark_heads((next_in_line(array(
      select distinct o.thread_id from thread_operations o where o.id = any (v_withdrawn)))).waiting) > 0;
  end if;

  -- Once: what a claim that knew of it has left says so in its error. The coalesce keeps the planner from
  -- walking all the heads that are ready.
  v_woken := array(
    select o.id from thread_operations c join thread_operations o on o.id = c.target_id
     where c.status = 'pending' and c.place is null and c.operation = 'cancel_run'
       and o.status in ('pending', 'requires_action') and (o.status = 'requires_action' or is_under_way(o) or owes_messages(o, c))
       and coalesce(o.ready_at, clock_timestamp()) > clock_timestamp()
       and o.error -> 'operation_id' is distinct from cancelled_by(cancellation_of(o.id)) -> 'operation_id'
     limit 1000 for update of o skip locked);
  if v_woken <> '{}' then
    update thread_operations o set ready_at = clock_timestamp() where o.id = any (v_woken);
    ready := true;
  end if;

  v_done := array(
    select c.id from thread_operations c left join thread_operations o on o.id = c.target_id
     where c.status = 'pending' and c.place is null and c.operation = 'cancel_run'
       and (o.id is null or o.finished_at is not null)
     limit 1000 for update of c skip locked);
  if v_done <> '{}' then
    update thread_operations c
       set status = 'completed', finished_at = clock_timestamp(),
           -- It was in time only where the error of its target names it: then its own row was held.
           result = jsonb_strip_nulls(jsonb_build_object('operation_id', c.target_id, 'outcome', coalesce((
                      select o.status from thread_operations o
                       where o.id = c.target_id
                         and o.error -> 'operation_id' in (to_jsonb(c.id), c.data -> 'interrupted_by')), 'nothing_to_do')))
     where c.id = any (v_done);
    perform notify_waiters(v_done);
  end if;
  if ready then
    perform wake_dispatchers();
  end if;
end $$;
