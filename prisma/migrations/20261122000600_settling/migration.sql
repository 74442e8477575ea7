-- Settling: outcomes are recorded by whoever holds the claim, and by nobody else.

-- From when an operation may be served that waits for an operator: not by itself. A date that every
-- client can read; 'infinity' is none.
create function never() returns timestamptz language sql immutable parallel safe as $$ select timestamptz '9999-01-01 00:00:00+00' $$;

-- What the operations of a thread have added to it so far, with the one that ends now: messages (its own,
-- those merged into it, the answer), runs, and tokens. Each takes the sums from the turn before it, so nothing is
-- written but its own row.
create function totals_after(
  p_thread_id text, p_turn bigint, p_operation text, p_merges bigint[], p_result jsonb,
  out messages bigint, out runs bigint, out input_tokens bigint, out output_tokens bigint)
language sql stable as $$
  select before.messages
           + case when p_operation in ('add_message', 'add_message_and_run')
                       and (p_result ? 'message_id' or ended.well) then 1 else 0 end
           + case when ended.well then coalesce(cardinality(p_merges), 0) else 0 end
           + case when p_result ->> 'text' is not null then 1 else 0 end,
         before.runs + case when p_result ? 'run' then 1 else 0 end,
         before.input_tokens + coalesce((p_result #>> '{usage,input_tokens}')::bigint, 0),
         before.output_tokens + coalesce((p_result #>> '{usage,output_tokens}')::bigint, 0)
    from thread_totals(p_thread_id, p_turn) as before,
         (select coalesce(p_result #>> '{run,status}' in ('completed', 'incomplete'), false) as well) as ended
$$;

-- Records outcomes, an object by operation id: {"7": {"attempts": 1, "status": "completed", "result": …}}.
-- Only the owner of a claim (dispatcher and attempt) can settle it; returns how many came too late and
-- changed nothing. What a user's transaction holds is noted beside, for anybody to settle later.
create function settle_operations(p_dispatcher text, p_ids bigint[], p_outcomes jsonb) returns integer
language plpgsql as $$
declare
  v_free bigint[] := p_ids;
  v_settled integer;
  v_noted integer := 0;
begin
  loop
    begin
      update thread_operations o
         set status = p_outcomes -> o.id::text ->> 'status',
             result = coalesce(p_outcomes -> o.id::text -> 'result', o.result),
             error = p_outcomes -> o.id::text -> 'error',
             failures = o.failures + coalesce((p_outcomes -> o.id::text ->> 'failures')::integer, 0),
             ready_at = case when (p_outcomes -> o.id::text ->> 'held')::boolean then never()
                             else clock_timestamp() + (p_outcomes -> o.id::text ->> 'retry_ms')::integer * interval '1 millisecond' end,
             finished_at = case when p_outcomes -> o.id::text ->> 'status' in ('completed', 'failed', 'cancelled') then clock_timestamp() end,
             place = case when p_outcomes -> o.id::text ->> 'status' in ('pending', 'requires_action', 'processing') then o.place end,
             -- Only a hold stays in processing: from now on its caller has the thread, and no dispatcher.
             claimed_by = case when p_outcomes -> o.id::text ->> 'status' = 'processing' then o.created_by end,
             held_until = clock_timestamp() + (p_outcomes -> o.id::text ->> 'hold_ms')::integer * interval '1 millisecond',
             (messages_so_far, runs_so_far, input_tokens_so_far, output_tokens_so_far) = (
               select so_far.messages, so_far.runs, so_far.input_tokens, so_far.output_tokens
                 from totals_after(o.thread_id, o.turn, o.operation, o.merges, p_outcomes -> o.id::text -> 'result') as so_far
                where p_outcomes -> o.id::text ->> 'status' in ('completed', 'failed', 'cancelled'))
       where o.id = any (v_free)
         and o.claimed_by = p_dispatcher and o.attempts = (p_outcomes -> o.id::text ->> 'attempts')::integer;
      get diagnostics v_settled = row_count;
      exit;
    exception when lock_not_available or deadlock_detected then
      -- Somebody's transaction holds one of the rows: leave it out, it must not hold up the others.
      v_free := array(select o.id from thread_operations o where o.id = any (p_ids) for update skip locked);
    end;
  end loop;
  -- With the row in hand: an output that was written before found nobody who waits.
  if jsonb_path_exists(p_outcomes, '$.*.status ? (@ == "requires_action")') then
    perform go_on_where_answered(v_free);
  end if;
  if v_free <> p_ids then
    insert into unsettled_outcomes (operation_id, attempts, claimed_by, outcome)
    select o.id, o.attempts, o.claimed_by, p_outcomes -> o.id::text
      from thread_operations o
     where o.id = any (p_ids) and not o.id = any (v_free)
       and o.claimed_by = p_dispatcher and o.attempts = (p_outcomes -> o.id::text ->> 'attempts')::integer
        on conflict (operation_id) do update
           set attempts = excluded.attempts, claimed_by = excluded.claimed_by, outcome = excluded.outcome;
    get diagnostics v_noted = row_count;
  end if;
  if exists (select from thread_operations c
              where c.target_id = any (p_ids) and c.status = 'pending' and c.place is null) then
    perform settle_cancellations(p_ids);
  end if;
  return cardinality(p_ids) - v_settled - v_noted;
end $$;

-- Tells those who wait for one of these: that it is final, or that their hold has the thread.
create function notify_waiters(p_ids bigint[]) returns void language sql as $$
  select pg_notify('inturn_settled', o.id::text)
    from thread_operations o
   where o.id = any (p_ids)
     and (o.status in ('completed', 'failed', 'cancelled') or o.held_until is not null)
     and exists (select from operation_waiters w where w.operation_id = o.id)
$$;
