-- What may become of a row after its INSERT, whoever writes. The line's own functions carry
-- `set inturn.line = 'on'`; they alone move operations on. Everybody else may cancel what still waits
-- and change data or priority of what was never claimed.

-- Whether the message of an operation that waits for its turn is at the provider, or on its way there,
-- together with that of one before it. What retry_operation has sent back is another matter.
create function is_sent_along(p_row thread_operations) returns boolean language sql immutable as $$
  select p_row.turn is null and p_row.finished_at is null
     and (coalesce(p_row.intent ? 'batch' and not p_row.intent ? 'sent_back', false)
          or coalesce(p_row.progress ? 'message_id' and not p_row.progress ? 'sent_back', false))
$$;

-- Refuses an UPDATE that comes from outside the line, or returns the provider that the row goes to now.
-- Security definer, because who may change an operation need not be allowed to read threads.
create function guard_update_from_outside(p_old thread_operations, p_new thread_operations) returns text
language plpgsql security definer set search_path from current as $$
declare
  v_column text;
begin
  if p_old.finished_at is not null then
    raise check_violation using
      constraint = 'final_operation_is_frozen',
      message = format('operation %s is %s, and what is final stays as it is', p_old.id, p_old.status),
      hint = case when p_old.status in ('failed', 'cancelled') then
        format('To have it served again: SELECT retry_operation(%s, ''head''), or ''tail'' for the end of its line.', p_old.id)
        else 'Insert a new operation instead.' end;
  end if;
  select changed.key into v_column
    from jsonb_each(to_jsonb(p_new)) as changed
    join jsonb_each(to_jsonb(p_old)) as kept on kept.key = changed.key
   where changed.value is distinct from kept.value
     and changed.key not in ('data', 'status', 'priority', 'updated_at')
   limit 1;
  if v_column is not null then
    raise check_violation using
      constraint = 'line_column_is_guarded',
      message = format('%s of operation %s is written by inturn alone', v_column, p_old.id),
      hint = 'You may set status to ''cancelled'', and change data or priority while the operation waits.';
  end if;
  if p_old.status not in ('pending', 'scheduled') then
    raise check_violation using
      constraint = 'active_operation_is_not_updated',
      message = format('operation %s is %s, and an UPDATE does not reach what is under way', p_old.id,
                       p_old.status || coalesce(' by ' || p_old.claimed_by, '')),
      hint = format('To end it: INSERT INTO thread_operations (thread_id, operation) VALUES (%L, ''cancel_run'');', p_old.thread_id);
  end if;
  if is_sent_along(p_old) and (p_new.status, p_new.data) is distinct from (p_old.status, p_old.data) then
    raise check_violation using
      constraint = 'message_is_sent_along',
      message = format('the message of operation %s goes to the provider together with the one before it', p_old.id),
      hint = 'It can be neither changed nor cancelled any more: it is completed when its turn comes. To take it back, delete it at the provider then.';
  end if;
  if p_new.status not in (p_old.status, 'cancelled') then
    raise check_violation using
      constraint = 'transition_is_legal',
      message = format('operation %s cannot go from %s to %s by an UPDATE', p_old.id, p_old.status, p_new.status),
      hint = 'The only status you may write is ''cancelled''.';
  end if;
  -- One that is held is for an operator to give up, whatever may come of it.
  if p_new.status = 'cancelled' and p_old.ready_at is distinct from never() and is_under_way(p_old) then
    raise check_violation using
      constraint = 'what_is_under_way_is_ended_first',
      message = format('operation %s waits for its next attempt, and what it has begun at the provider may go on', p_old.id),
      hint = format('To end both: INSERT INTO thread_operations (thread_id, operation, data) VALUES (%L, ''cancel_run'', ''{"operation_id": %s}'');',
                    p_old.thread_id, p_old.id);
  end if;
  if p_new.priority not between -100 and 100 then
    raise check_violation using
      constraint = 'priority_is_between_minus_100_and_100',
      message = format('priority must be a number from -100 to 100, not %s', p_new.priority);
  end if;
  if p_new.data is distinct from p_old.data then
    if p_old.started_at is not null then
      raise check_violation using
        constraint = 'data_is_fixed_once_started',
        message = format('data of operation %s is fixed: it was started at %s', p_old.id, p_old.started_at),
        hint = 'Cancel this operation and insert a new one.';
    end if;
    perform check_operation_data(p_new.operation, p_new.data);
    -- A head stands among those of its provider, and a create_thread may name another one now.
    if p_old.head_since is not null then
      return provider_of(p_new.thread_id, p_new.operation, p_new.data,
                         (select t.provider from threads t where t.id = p_new.thread_id));
    end if;
  end if;
  return p_new.provider;
end $$;

-- The transitions here are the table `transitions` of src/model/operation.ts; a test compares the two.
create function guard_operation() returns trigger language plpgsql as $$
begin
  if current_setting('inturn.line', true) is distinct from 'on' then
    if new is not distinct from old then
      new.prev_status := null; -- an ORM that saves what it has read changes nothing
      return new;
    end if;
    -- By the table's schema: this function has no search_path of its own, for the sake of the line's speed.
    execute format('select %I.guard_update_from_outside($1, $2)', tg_table_schema) into new.provider using old, new;
    if new.status = 'cancelled' then
      new.finished_at := clock_timestamp();
      new.place := null;
      new.ready_at := null;
    end if;
  end if;
  if not ((case old.status
       when 'scheduled' then new.status in ('scheduled', 'pending', 'cancelled')
       when 'pending' then new.status in ('pending', 'processing', 'completed', 'failed', 'cancelled')
       when 'processing' then new.status in ('processing', 'pending', 'requires_action', 'completed', 'failed', 'cancelled')
       when 'requires_action' then new.status in ('requires_action', 'processing')
       -- retry_operation: it joins its line anew.
       when 'failed' then new.status = 'pending' and new.turn is null
       when 'cancelled' then new.status = 'pending' and new.turn is null
       else false end
       -- erase_operations: it stays final, and nothing is left of what it held.
       or old.finished_at is not null and new.status = old.status and coalesce(new.progress ? 'erased', false))
     and (new.finished_at is not null) = (new.status in ('completed', 'failed', 'cancelled'))
     and (new.place is null or new.status in ('pending', 'processing', 'requires_action'))
     and (new.claimed_by is not null) = (new.status = 'processing')
     and (new.ready_at is null or new.status in ('pending', 'requires_action'))) then
    raise check_violation using
      constraint = 'transition_is_legal',
      message = format('operation %s cannot go from %s to %s', old.id, old.status, new.status),
      detail = format('finished_at %s, place %s, claimed_by %s, ready_at %s', new.finished_at, new.place, new.claimed_by, new.ready_at);
  end if;
  new.prev_status := nullif(old.status, new.status);
  new.updated_at := clock_timestamp();
  return new;
end $$;

create trigger guard_operation before update on thread_operations
  for each row execute function guard_operation();

create function refuse_delete_of_unfinished() returns trigger language plpgsql set search_path from current as $$
begin
  if old.finished_at is null then
    raise check_violation using
      constraint = 'unfinished_operation_is_not_deleted',
      message = format('operation %s is %s and cannot be deleted', old.id, old.status),
      hint = 'Cancel it instead: UPDATE thread_operations SET status = ''cancelled'' WHERE id = ' || old.id || ';';
  end if;
  if old.error ->> 'code' = 'merged' and exists (
       select from thread_operations o where o.id = (old.error ->> 'operation_id')::bigint and o.finished_at is null) then
    raise check_violation using
      constraint = 'message_is_still_needed',
      message = format('operation %s cannot be deleted: operation %s takes its message along and is not final', old.id, old.error ->> 'operation_id'),
      hint = 'Delete it when that one is final.';
  end if;
  return old;
end $$;

create trigger refuse_delete_of_unfinished before delete on thread_operations
  for each row execute function refuse_delete_of_unfinished();

-- A turn is never given twice, and nothing is forgotten that was counted: what leaves with the highest
-- turn of deleted rows stays on the thread.
create function remember_last_turn() returns trigger language plpgsql security definer set search_path from current as $$
begin
  update threads t
     set last_turn = greatest(t.last_turn, gone.turn),
         messages_so_far = greatest(t.messages_so_far, gone.messages), runs_so_far = greatest(t.runs_so_far, gone.runs),
         input_tokens_so_far = greatest(t.input_tokens_so_far, gone.input_tokens),
         output_tokens_so_far = greatest(t.output_tokens_so_far, gone.output_tokens)
    from (select thread_id, max(turn) as turn, max(messages_so_far) as messages, max(runs_so_far) as runs,
                 max(input_tokens_so_far) as input_tokens, max(output_tokens_so_far) as output_tokens
            from old_rows group by thread_id) as gone
   where t.id = gone.thread_id and t.last_turn < gone.turn;
  return null;
end $$;

create trigger remember_last_turn after delete on thread_operations
  referencing old table as old_rows for each statement execute function remember_last_turn();

create function refuse_truncate() returns trigger language plpgsql as $$
begin
  raise check_violation using
    constraint = tg_table_name || '_is_not_truncated',
    message = format('%s cannot be truncated: unfinished operations and the ledger would be lost', tg_table_name),
    hint = 'Cancel what waits, then DELETE the finished rows you no longer need.';
end $$;

create trigger refuse_truncate before truncate on thread_operations
  for each statement execute function refuse_truncate();
