-- The ledger: every change of status becomes a row of operation_events, by trigger, whoever writes.
-- It says that something happened and never what was said: no data, no result, no error text.

create function record_events() returns trigger language plpgsql security definer set search_path from current as $$
begin
  -- Reads the new rows only (the guard left the old status in prev_status): joining the old and the
  -- new transition table would be quadratic.
  insert into operation_events
    (operation_id, thread_id, from_status, to_status, turn, attempt, actor, code, run_id, retry_at, detail)
  select n.id, n.thread_id, n.prev_status, n.status, n.turn, n.attempts,
         case when current_setting('inturn.line', true) = 'on' then current_setting('inturn.actor') else session_actor() end,
         case when n.status not in ('processing', 'completed') then n.error ->> 'code' end,
         n.progress ->> 'run_id',
         case when n.status in ('pending', 'requires_action') then n.ready_at end,
         -- The message may quote what was said.
         case when n.status not in ('processing', 'completed') then nullif(n.error - 'code' - 'message', '{}') end
    from new_rows n
   where n.prev_status is not null;
  return null;
end $$;

create trigger record_events after update on thread_operations
  referencing new table as new_rows for each statement execute function record_events();

-- Only retention deletes, and only from within its own function: what the server itself tells of the
-- call stack cannot be set by anybody, and the outermost frame holds no text of the caller's. Who owns the
-- tables could drop this trigger as well; nobody else gets past it.
create function refuse_rewriting_history() returns trigger language plpgsql as $$
declare
  v_stack text;
begin
  if tg_op = 'DELETE' then
    get diagnostics v_stack = pg_context;
    if v_stack ~ '\nPL/pgSQL function prune_operations\(integer\) line \d+ at SQL statement$'
       and (select c.relowner from pg_class c where c.oid = tg_relid) = (select r.oid from pg_roles r where r.rolname = current_user) then
      return null;
    end if;
  end if;
  raise check_violation using
    constraint = 'ledger_is_append_only',
    message = format('%s of operation_events is refused: the ledger is append-only', lower(tg_op)),
    hint = 'Read it with SELECT. Its rows are written by inturn''s triggers alone, and go with their operation when the operation_retention of its policy is over.';
end $$;

create trigger refuse_rewriting_history before update or delete or truncate on operation_events
  for each statement execute function refuse_rewriting_history();
