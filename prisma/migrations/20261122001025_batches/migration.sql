-- Batches: the messages of neighbouring add_messages that go to the provider in one call, which takes
-- effect as a whole or not at all. Each member carries the same intent, so whoever of them is first when
-- something went wrong can look for all of them. While its message is under way a member stands right
-- behind whoever sends it: an earlier place that commits now must not come between.

-- Writes down that the message of a claimed add_message is about to be sent, together with those of up to
-- p_most - 1 add_messages that wait right behind it. The first that is another kind, was begun before or
-- is held by somebody's transaction ends the batch, and so does the room that the thread's policy leaves.
-- Returns the batch in its order with the data of each, which cannot change from now on; no row: the claim
-- is lost.
create function begin_batch(p_dispatcher text, p_id bigint, p_attempts integer, p_intent jsonb, p_most integer)
returns table (id bigint, data jsonb)
language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
  set enable_hashjoin = off set enable_mergejoin = off set jit = off set lock_timeout = '1s'
as $$
declare
  v_thread text;
  v_behind bigint[];
  v_free bigint[];
  v_intent jsonb := jsonb_build_object('at', clock_timestamp()) || p_intent;
begin
  select o.thread_id into v_thread from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts for update;
  if not found then
    return;
  end if;
  p_most := least(p_most, most_before_rotation(v_thread));
  v_behind := array(
    select o.id from thread_operations o
     where o.thread_id = v_thread and o.place > started_place() order by o.place limit p_most - 1);
  if lines_to_arrange(array[p_id]) is not null then
    v_behind := '{}'; -- some of them may be merged, superseded or wait for a pause
  end if;
  v_free := array(
    select o.id from thread_operations o
     where o.id = any (v_behind)
       and o.operation = 'add_message' and o.status = 'pending' and o.place is not null and o.attempts = 0
       and num_nonnulls(o.intent, o.progress, o.merges) = 0
       and coalesce(o.ready_at <= clock_timestamp(), true) and cancellation_of(o.id) is null
       for update skip locked);
  v_behind := v_behind[:coalesce((
    select min(b.n) - 1 from unnest(v_behind) with ordinality as b (id, n) where not b.id = any (v_free)), p_most)];
  if v_behind <> '{}' then
    v_intent := v_intent || jsonb_build_object('batch', p_id || v_behind);
    update thread_operations o
       set intent = v_intent || jsonb_build_object('place', o.place), place = started_place() + b.n
      from unnest(v_behind) with ordinality as b (id, n)
     where o.id = b.id;
  end if;
  update thread_operations o set intent = v_intent where o.id = p_id;
  return query
    select o.id, o.data from unnest(p_id || v_behind) with ordinality as b (id, n)
      join thread_operations o on o.id = b.id order by b.n;
end $$;

-- As note_progress, for a claim whose intent is a batch and is one no more. p_others is the progress of
-- the other members by id. Those that are not among them are free again, and go back to where they stood.
-- What somebody's transaction holds keeps the intent, and looks for itself when its turn comes.
create function note_batch(p_dispatcher text, p_id bigint, p_attempts integer, p_intent jsonb, p_progress jsonb, p_batch bigint[], p_others jsonb)
returns boolean
language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
  set lock_timeout = '1s'
as $$
declare
  v_free bigint[];
  v_last_held integer;
begin
  if not note_progress(p_dispatcher, p_id, p_attempts, p_intent, p_progress) then
    return false;
  end if;
  v_free := array(
    select o.id from thread_operations o
     where o.id = any (p_batch) and o.id <> p_id and o.status = 'pending' and o.turn is null
       and o.intent -> 'batch' = to_jsonb(p_batch)
       for update skip locked);
  -- Nobody goes back behind a member that keeps its place.
  select max(b.n) into v_last_held
    from unnest(p_batch) with ordinality as b (id, n) join thread_operations o on o.id = b.id
   where not o.id = any (v_free) and o.status = 'pending' and o.turn is null and o.intent ? 'batch';
  update thread_operations o
     set intent = null,
         progress = p_others -> o.id::text,
         place = case when p_others ? o.id::text or b.n < v_last_held then o.place else (o.intent ->> 'place')::bigint end
    from unnest(p_batch) with ordinality as b (id, n)
   where o.id = b.id and o.id = any (v_free);
  return true;
end $$;

-- The messages of a batch that is looked for; of what was deleted since, nothing.
create function messages_of_batch(p_batch bigint[]) returns table (id bigint, data jsonb) language sql stable
  set enable_seqscan = off
as $$
  select o.id, o.data from unnest(p_batch) with ordinality as b (id, n)
    join thread_operations o on o.id = b.id order by b.n
$$;
