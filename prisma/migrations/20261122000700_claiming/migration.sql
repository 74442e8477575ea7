-- Claiming: the oldest ready heads, each only if it is the first of its line at that moment.

-- The place of every started operation: before all who wait, also those that were sent to the head. A
-- number that JavaScript can hold.
create function started_place() returns bigint language sql immutable parallel safe as $$ select -9000000000000000 $$;

-- The thread of an operation appears with its first start, not with the INSERT: there it would be a lock.
-- A row that a caller has written before, to say what happens after a failure, gets its provider now.
create function create_missing_threads(p_ids bigint[], p_default_provider text) returns void language sql as $$
  insert into threads (id, provider, provider_thread_id)
  select distinct on (o.thread_id) o.thread_id, coalesce(nullif(o.provider, ''), p_default_provider),
         -- Two lines on one conversation would race: what another thread has adopted stays its own. No exists,
         -- which the planner may turn into a look at the whole table.
         case when provider_of(o.thread_id, '', '{}', null) <> ''
               and (select a.id from threads a where a.provider_thread_id = o.thread_id limit 1) is null then o.thread_id end
    from thread_operations o
   where o.id = any (p_ids) and not exists (select from threads t where t.id = o.thread_id and t.provider is not null)
   order by o.thread_id, o.place
      on conflict (id) do update
         set provider = excluded.provider,
             provider_thread_id = coalesce(threads.provider_thread_id, excluded.provider_thread_id)
       where threads.provider is null
$$;

-- Whether an operation was sent back into its line after the conversation was deleted that it was inserted for.
create function has_rejoined(p_row thread_operations, p_ended_before bigint) returns boolean language sql immutable as $$
  select coalesce((p_row.progress ->> 'rejoined')::bigint >= p_ended_before, false)
$$;

-- Whether what is known of an operation at the provider is of a conversation that its thread has no more:
-- it was sent back into its line, and the thread was rotated, expired or deleted before its turn.
-- What is being deleted it is to go on with.
create function is_left_behind(p_row thread_operations, p_generation integer, p_provider_thread_id text) returns boolean
language sql immutable as $$
  select p_row.turn is null and coalesce(
    (p_row.progress ->> 'generation')::integer > 0
    and not p_row.progress ? 'deleting'
    and (p_provider_thread_id is null or (p_row.progress ->> 'generation')::integer <> p_generation), false)
$$;

-- Starts these operations, which the caller found next in their lines. Looks again, with a new snapshot,
-- whether each is still the first of its line: what was locked may have been overtaken meanwhile. After
-- a failure, whether the line goes on is decided here and nowhere else.
create function start_operations(p_dispatcher text, p_ids bigint[], p_default_provider text) returns text[]
language plpgsql as $$
declare
  v_started text[];
begin
  with started as (
    update thread_operations o
       set status = 'processing',
           place = started_place(), -- a started operation stays first, whoever commits an earlier place now
           claimed_by = p_dispatcher,
           attempts = o.attempts + 1,
           ready_at = null,
           intent = case when not is_left_behind(o, t.generation, t.provider_thread_id) then o.intent end,
           progress = case when not is_left_behind(o, t.generation, t.provider_thread_id) then o.progress
                           when o.progress ? 'rejoined' then jsonb_build_object('rejoined', o.progress -> 'rejoined') end,
           head_since = coalesce(o.head_since, clock_timestamp()),
           provider = coalesce(t.provider, nullif(o.provider, ''), p_default_provider),
           turn = coalesce(o.turn, greatest(t.last_turn, coalesce((
             select m.turn from thread_operations m
              where m.thread_id = o.thread_id and m.turn is not null order by m.turn desc limit 1), 0)) + 1),
           started_at = coalesce(o.started_at, clock_timestamp())
      from threads t
     where o.id = any (p_ids) and t.id = o.thread_id
       and o.status in ('pending', 'requires_action')
       and o.id = (select f.id from thread_operations f
                    where f.thread_id = o.thread_id and f.place is not null order by f.place limit 1)
       and (t.on_failure = 'continue' or may_start(o.id))
    returning o.id, o.thread_id, o.operation, o.data, o.retry, coalesce(o.user_id, t.user_id) as user_id, o.merges, cancellation_of(o.id) as cancellation, o.turn, o.attempts, o.failures, o.provider, o.intent, o.progress,
              t.provider_thread_id, t.last_item_id, t.last_message_at, t.generation,
              o.operation <> 'delete_thread' and (t.deleted_at is not null or o.id < t.ended_before and not has_rejoined(o, t.ended_before)) as is_ended, clock_timestamp() as claimed_at,
              extract(epoch from clock_timestamp() - (o.intent ->> 'at')::timestamptz) * 1000 as intent_age_ms
  )
  select array_agg(row_to_json(s)::text) into v_started from started s;
  return v_started;
end $$;

-- The priorities that heads have now, and 0; highest first. An index probe for each and each provider.
create function head_priorities(p_providers text[]) returns smallint[] language sql stable as $$
  with recursive head (provider, priority) as (
    select p.provider, (select max(h.priority) from thread_operations h
                         where h.ready_at is not null and h.provider = p.provider)
      from unnest(p_providers) as p (provider)
    union all
    select head.provider, (select max(h.priority) from thread_operations h
                            where h.ready_at is not null and h.provider = head.provider and h.priority < head.priority)
      from head where head.priority is not null
  )
  select array_agg(distinct coalesce(priority, 0::smallint) order by coalesce(priority, 0::smallint) desc) from head
$$;

-- Whether a head has a priority that is not among these, highest first, and is higher than their lowest:
-- one probe between each two of them.
create function heads_between(p_providers text[], p_priorities smallint[]) returns boolean language sql stable as $$
  select exists (
    select from unnest(p_providers) as p (provider)
     cross join generate_subscripts(p_priorities, 1) as n
     cross join lateral (
       select from thread_operations h
        where h.ready_at is not null and h.provider = p.provider
          and h.priority > p_priorities[n] and h.priority < coalesce(p_priorities[n - 1], 32767::smallint)
        limit 1) as head)
$$;

-- Takes the oldest ready heads of these providers, highest priority first, into at most p_free slots.
-- p_floors: for each priority, no live mark lies below it as far as the caller knows, so the scan need
-- not pass the dead index entries there; null looks at everything. floors are those for the next time;
-- met counts the heads it found, claimed or not.
create function claim_heads(
  p_dispatcher text, p_free integer, p_providers text[], p_default_provider text, p_priorities smallint[], p_floors timestamptz[],
  out claimed text[], out met integer, out floors timestamptz[])
language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
  v_nth integer;
  v_heads bigint[] := '{}';
  v_found bigint[];
  v_oldest timestamptz;
  v_id bigint;
  v_threads text[];
  v_patience text;
begin
  floors := p_floors;
  begin
    for v_nth in 1..cardinality(p_priorities) loop
      -- The order by and limit stand below the lock: rows that somebody holds do not count.
      select array_agg(head.id order by head.ready_at, head.id), min(head.ready_at) into v_found, v_oldest
        from unnest(p_providers) as p (provider)
       cross join lateral (
         select h.id, h.ready_at from thread_operations h
          where h.ready_at is not null and h.provider = p.provider and h.priority = p_priorities[v_nth]
            and h.ready_at >= coalesce(p_floors[v_nth], '-infinity') and h.ready_at <= v_now
          order by h.ready_at, h.id limit p_free
            for update skip locked) as head;
      -- A transaction that marked itself a second ago may commit only now.
      floors[v_nth] := coalesce(v_oldest, v_now) - interval '1 second';
      v_heads := (v_heads || coalesce(v_found, '{}'))[:p_free];
      exit when cardinality(v_heads) = p_free;
    end loop;
    if v_heads <> '{}' then
      perform create_missing_threads(v_heads, p_default_provider);
      claimed := start_operations(p_dispatcher, arranged(v_heads), p_default_provider);
    end if;
  exception when unique_violation or deadlock_detected or lock_not_available then
    -- One of them met somebody else's transaction. One by one, so that only that one waits.
    claimed := null;
    v_patience := current_setting('lock_timeout');
    perform set_config('lock_timeout', '1ms', true);
    foreach v_id in array v_heads loop
      begin
        if exists (select from thread_operations o
                    where o.id = v_id and o.ready_at <= v_now for update skip locked) then
          perform create_missing_threads(array[v_id], p_default_provider);
          claimed := claimed || start_operations(p_dispatcher, arranged(array[v_id]), p_default_provider);
        end if;
      exception when unique_violation or deadlock_detected or lock_not_available then
        update thread_operations o set ready_at = clock_timestamp() + interval '250 milliseconds'
         where o.id = (select l.id from thread_operations l where l.id = v_id and l.ready_at is not null for update skip locked);
      end;
    end loop;
    perform set_config('lock_timeout', v_patience, true);
  end;
  met := cardinality(v_heads);

  if coalesce(cardinality(claimed), 0) < met then
    -- Marks that lead to nobody who may be served: on operations that a failure before them cancels; in
    -- halted lines; and on those that are not the first (two overlapping inserts both saw an empty line).
    -- They come off, and the first of each line gets its own.
    v_threads := array(select distinct o.thread_id from thread_operations o where o.id = any (v_heads));
    perform cancel_rest(v_threads);
    -- One that deletes the conversation may have met somebody who was being started.
    perform make_way(v_heads);
    update thread_operations o set ready_at = null
     where o.id = any (array(select l.id from thread_operations l where l.id = any (v_heads) for update skip locked))
       and o.status = 'pending' and o.ready_at is not null
       and (o.id <> (select f.id from thread_operations f
                      where f.thread_id = o.thread_id and f.place is not null order by f.place limit 1)
            or o.operation <> 'delete_thread' and line_is_halted(o.thread_id));
    if mark_heads((next_in_line(v_threads)).waiting) > 0 then
      perform wake_dispatchers();
    end if;
  end if;
end $$;
