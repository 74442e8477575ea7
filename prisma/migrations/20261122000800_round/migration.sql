-- Serving the lines: settle what finished, move its lines on, claim into the free slots, all in one
-- round trip and one commit.
--
-- The settings on these functions leave the planner one sensible plan, an index probe per row, however
-- old its statistics are: a fresh table, a bulk load or a million dead rows change nothing.
-- lock_timeout: whatever a user's open transaction holds is skipped; the few waits that cannot be
-- (a unique key in the making) are cut short.

-- One round of a dispatcher. p_threads are the lines to move on: those of the operations it settles, and
-- those it emptied before and looks at again. p_priorities and p_floors as in claim_heads; they are
-- looked up anew where null, or where somebody urgent has a priority that the caller does not know; p_awake takes back that the dispatcher sleeps. claimed is a JSON array of what it holds
-- now; emptied are those of p_threads where nobody waits; oldest_xid and next_xid bound the transactions
-- that were open when it looked at lines.
create function settle_and_claim(
  p_dispatcher text, p_ids bigint[], p_outcomes jsonb, p_threads text[], p_free integer, p_providers text[],
  p_default_provider text, p_priorities smallint[], p_floors timestamptz[], p_awake boolean,
  out late integer, out emptied text[], out oldest_xid xid8, out next_xid xid8,
  out claimed text, out full_house boolean, out priorities smallint[], out floors timestamptz[])
language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
  set enable_hashjoin = off set enable_mergejoin = off
  set enable_material = off set jit = off set lock_timeout = '20ms'
as $$
declare
  v_snapshot pg_snapshot := pg_current_snapshot();
  v_actor text := set_config('inturn.actor', p_dispatcher, true);
  v_claim record;
  v_claimed text[];
  v_started text[];
  v_room integer := p_free;
  v_next record;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      message = 'a dispatcher needs read committed: it must see what others have committed since its last statement',
      hint = 'Set it for the role of the dispatcher: alter role … set default_transaction_isolation = ''read committed'';';
  end if;
  oldest_xid := pg_snapshot_xmin(v_snapshot);
  -- The snapshot's end is not above all that are open: it is the newest that is over, and one.
  next_xid := case when p_threads = '{}' then pg_snapshot_xmax(v_snapshot) else pg_current_xact_id() end;
  if p_awake then
    update dispatchers d set asleep = false
     where d.id = (select s.id from dispatchers s where s.id = p_dispatcher and s.asleep for update skip locked);
  end if;

  if p_ids <> '{}' then
    late := settle_operations(p_dispatcher, p_ids, p_outcomes);
    if jsonb_path_exists(p_outcomes, '$.*.status ? (@ == "failed")') then
      perform cancel_rest(p_threads);
    end if;
  end if;
  if p_free > 0 then
    priorities := coalesce(p_priorities, head_priorities(p_providers));
    floors := p_floors;
    if p_priorities is not null and heads_between(p_providers, p_priorities) then
      priorities := head_priorities(p_providers);
      floors := null;
    end if;
    v_claim := claim_heads(p_dispatcher, p_free, p_providers, p_default_provider, priorities, floors);
    v_claimed := v_claim.claimed;
    v_room := p_free - v_claim.met;
    floors := v_claim.floors;
  end if;
  full_house := p_free > 0 and v_room <= 0;

  if p_threads <> '{}' then
    select * into v_next from next_in_line(p_threads);
    emptied := v_next.empty;
    if v_room > 0 and v_next.waiting <> '{}' then
      -- Nobody older waits, so the next of these lines start at once and need no mark.
      begin
        v_started := start_operations(p_dispatcher, arranged(v_next.waiting[:v_room]), p_default_provider);
        v_claimed := v_claimed || v_started;
        if cardinality(v_started) = cardinality(v_next.waiting[:v_room]) then
          v_next.waiting := v_next.waiting[v_room + 1:];
        else
          -- Overtaken meanwhile by somebody who saw a busy line and did not mark himself.
          v_next.waiting := (next_in_line(p_threads)).waiting;
        end if;
      exception when unique_violation or deadlock_detected or lock_not_available then
        null; -- somebody's transaction holds one of them: all are marked below instead
      end;
    end if;
    if v_next.waiting <> '{}' and mark_heads(v_next.waiting) > 0 then
      perform wake_dispatchers();
    end if;
    if v_next.somebody_waits then
      perform notify_waiters(p_ids);
    end if;
  end if;
  claimed := '[' || coalesce(array_to_string(v_claimed, ','), '') || ']';
end $$;
