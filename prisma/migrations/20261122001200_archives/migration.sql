-- Archives: a conversation is copied page by page in the name of the operation that asks for it, and
-- counts from the moment on when it is complete, in one statement. What was given up on the way is
-- swept away later.

-- Archives that are being written. Whoever begins anew draws a new number and leaves the old rows to
-- delete_unfinished_archives, so that nothing large is deleted while a line waits.
create table unfinished_archives (
  archive_id    bigint primary key,
  operation_id  bigint not null,
  thread_id     text not null,
  begun_at      timestamptz(6) not null default clock_timestamp()
);

-- The items of a page that are not among the last ones before it: where messages of one second come in
-- any order, the page behind a message may hold another of its second once more.
create function fresh_items(p_archive_id bigint, p_position bigint, p_items jsonb)
returns table (n bigint, item_id text, type text, role text, text text, content jsonb, attachments text[], run_id text,
               metadata jsonb, said_at timestamptz, item jsonb)
language sql stable as $$
  select row_number() over (order by page.ordinality), page.id, page.type, page.role, page.text, page.content,
         coalesce(page.attachments, '{}'), page.run_id, page.metadata, page.said_at, page.item
    from rows from (jsonb_to_recordset(p_items) as (
           id text, type text, role text, text text, content jsonb, attachments text[], run_id text,
           metadata jsonb, said_at timestamptz, item jsonb)) with ordinality as page
   where not page.id = any (array(
           select m.item_id from archived_messages m
            where m.archive_id = p_archive_id and m.position > p_position - 200 and m.position <= p_position))
$$;

-- Begins an archive, or begins it anew, for whoever holds the operation; gives what is noted of it as
-- progress. Null: the claim is lost. That and the other two are harmless to repeat.
create function begin_archive(p_dispatcher text, p_id bigint, p_attempts integer, p_provider_thread_id text)
returns jsonb language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set jit = off set lock_timeout = '1s'
as $$
declare
  v_operation thread_operations;
  v_id bigint := nextval(pg_get_serial_sequence('thread_archives', 'id'));
  v_before jsonb;
  v_noted jsonb;
begin
  select * into v_operation from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts for update;
  if not found then
    return null;
  end if;
  v_before := v_operation.progress -> 'archiving';
  insert into unfinished_archives (archive_id, operation_id, thread_id) values (v_id, p_id, v_operation.thread_id);
  v_noted := jsonb_build_object('archiving', jsonb_build_object(
    'archive_id', v_id, 'provider_thread_id', p_provider_thread_id, 'turn', v_operation.turn, 'after', null, 'position', 0,
    'since', case when (v_before ->> 'turn')::bigint = v_operation.turn and v_before ->> 'provider_thread_id' = p_provider_thread_id
                  then v_before -> 'since' else to_jsonb(clock_timestamp()) end));
  update thread_operations o set progress = coalesce(o.progress, '{}') || v_noted where o.id = p_id;
  return v_noted;
end $$;

-- Adds a page to the archive that the operation writes. p_after is where the next page begins.
create function add_archive_page(p_dispatcher text, p_id bigint, p_attempts integer, p_items jsonb, p_after text)
returns jsonb language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set jit = off set lock_timeout = '1s'
as $$
declare
  v_archiving jsonb;
  v_archive_id bigint;
  v_position bigint;
  v_added bigint;
begin
  select o.progress -> 'archiving' into v_archiving from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts for update;
  if not found then
    return null;
  end if;
  v_archive_id := v_archiving -> 'archive_id';
  v_position := v_archiving -> 'position';
  insert into archived_messages (archive_id, position, item_id, type, role, text, content, attachments, run_id, metadata, said_at, item)
  select v_archive_id, v_position + f.n, f.item_id, f.type, f.role, f.text, f.content, f.attachments, f.run_id, f.metadata, f.said_at, f.item
    from fresh_items(v_archive_id, v_position, p_items) as f;
  get diagnostics v_added = row_count;
  v_archiving := v_archiving || jsonb_build_object('after', p_after, 'position', v_position + v_added);
  update thread_operations o set progress = o.progress || jsonb_build_object('archiving', v_archiving) where o.id = p_id;
  return jsonb_build_object('archiving', v_archiving);
end $$;

-- Compares a page of the second look with what is stored behind p_position: ids and content, in order;
-- within a second in any order. Gives up to where it is the same; null: it is not.
create function compare_archive_page(p_archive_id bigint, p_position bigint, p_items jsonb)
returns bigint language sql stable
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
  with seen as (
    select f.* from fresh_items(p_archive_id, p_position, p_items) as f
  ), seen_in_order as (
    select row_number() over (order by s.said_at, case when s.said_at is not null then s.item_id end, s.n) as n, s.item_id, s.item from seen s
  ), stored_in_order as (
    select row_number() over (order by m.said_at, case when m.said_at is not null then m.item_id end, m.position) as n, m.item_id, m.item
      from archived_messages m
     where m.archive_id = p_archive_id and m.position > p_position and m.position <= p_position + (select count(*) from seen)
  )
  select case when coalesce(bool_and(seen.item_id is not distinct from stored.item_id and seen.item is not distinct from stored.item), true)
              then p_position + count(*) end
    from seen_in_order seen left join stored_in_order stored using (n)
$$;

-- Whether the archive lacks something that operations have added in the last p_settle_ms: reads may lag
-- behind writes by that long, in both looks alike. p_newest is the newest item that is known. Answers are
-- known by their run where the provider tells it, else by their words.
create function archive_lacks(p_archive_id bigint, p_thread_id text, p_provider_thread_id text, p_newest text, p_settle_ms bigint)
returns boolean language sql stable
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
  with latest as (
    select o.turn, o.finished_at, o.result from thread_operations o
     where o.thread_id = p_thread_id and o.turn is not null order by o.turn desc limit 1000
  ), recent as (
    select l.result ->> 'message_id' as message_id, l.result #>> '{run,id}' as run_id,
           case when l.result #>> '{run,status}' in ('completed', 'incomplete') then nullif(l.result ->> 'text', '') end as answer,
           row_number() over (order by l.turn desc) as n
      from latest l
     where l.finished_at > clock_timestamp() - p_settle_ms * interval '1 millisecond'
       and l.result ->> 'provider_thread_id' = p_provider_thread_id
  ), tail as (
    select m.item_id, m.run_id, m.text from archived_messages m
     where m.archive_id = p_archive_id order by m.position desc limit 5000
  )
  select exists (select from recent)
     and p_newest is not null and not exists (select from tail t where t.item_id = p_newest)
      or exists (select from recent r
                  where r.message_id is not null and not r.message_id in (select t.item_id from tail t))
      or exists (select from recent r
                  where r.answer is not null and r.n <= 100
                    and not exists (select from tail t
                                     where case when t.run_id is not null then t.run_id = r.run_id
                                                else t.text <> '' and starts_with(r.answer, t.text) end))
$$;

-- Completes the archive that the operation has written, once it was seen to be whole: from now on it
-- counts. What its provider thread's runs came to is known by the operations alone, so it is kept with it.
create function complete_archive(
  p_dispatcher text, p_id bigint, p_attempts integer, p_reason text, p_metadata jsonb, p_last_item_id text)
returns jsonb language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set jit = off set lock_timeout = '1s'
as $$
declare
  v_operation thread_operations;
  v_id bigint;
  v_provider_thread_id text;
  v_generation integer;
  v_noted jsonb;
begin
  select * into v_operation from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts for update;
  if not found then
    return null;
  end if;
  v_id := v_operation.progress #> '{archiving,archive_id}';
  v_provider_thread_id := v_operation.progress #>> '{archiving,provider_thread_id}';
  if v_operation.progress #> '{archived,archive_id}' = to_jsonb(v_id) then
    return jsonb_build_object('archived', v_operation.progress -> 'archived');
  end if;

  update thread_generations g set archive_id = v_id
   where g.thread_id = v_operation.thread_id
     and g.generation = (select max(l.generation) from thread_generations l
                          where l.thread_id = v_operation.thread_id and l.provider_thread_id = v_provider_thread_id)
  returning g.generation into strict v_generation;

  insert into archived_runs (archive_id, turn, operation_id, run_id, status, model, usage, user_id, started_at, finished_at)
  select v_id, o.turn, o.id, o.result #>> '{run,id}', o.result #>> '{run,status}', o.result #>> '{run,model}',
         nullif(o.result -> 'usage', 'null'), o.user_id, o.started_at, o.finished_at
    from thread_operations o
   where o.thread_id = v_operation.thread_id and o.turn is not null
     and o.result ->> 'provider_thread_id' = v_provider_thread_id and o.result ? 'run';

  insert into thread_archives (
    id, thread_id, generation, operation_id, provider, provider_thread_id, user_id, reason, messages, items, last_item_id,
    runs, input_tokens, output_tokens, metadata, verified_at)
  select v_id, t.id, v_generation, p_id, t.provider, v_provider_thread_id, t.user_id, p_reason, stored.messages, stored.items, p_last_item_id,
         used.runs, used.input_tokens, used.output_tokens, p_metadata, clock_timestamp()
    from threads t,
         (select count(*) as items, count(*) filter (where m.type = 'message') as messages
            from archived_messages m where m.archive_id = v_id) as stored,
         (select count(*) as runs,
                 case when count(*) = count(r.usage) then sum((r.usage ->> 'input_tokens')::bigint) end as input_tokens,
                 case when count(*) = count(r.usage) then sum((r.usage ->> 'output_tokens')::bigint) end as output_tokens
            from archived_runs r where r.archive_id = v_id) as used
   where t.id = v_operation.thread_id;
  delete from unfinished_archives u where u.archive_id = v_id;

  select jsonb_build_object('archived', jsonb_build_object(
           'archive_id', v_id, 'provider_thread_id', v_provider_thread_id, 'turn', v_operation.turn,
           'items', a.items, 'last_item_id', a.last_item_id))
    into v_noted from thread_archives a where a.id = v_id;
  update thread_operations o set progress = o.progress || v_noted where o.id = p_id;
  return v_noted;
end $$;

-- Deletes up to p_limit rows of archives that nobody goes on with: their operation is over, gone, or has
-- begun anew. Gives how many; fewer than p_limit: none is left that is not held by somebody.
create function delete_unfinished_archives(p_limit integer) returns integer language plpgsql security definer
  set search_path from current set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
  set lock_timeout = '20ms'
as $$
declare
  v_archive_id bigint;
  v_count integer := 0;
  v_deleted integer;
begin
  for v_archive_id in
    select u.archive_id from unfinished_archives u left join thread_operations o on o.id = u.operation_id
     where o.id is null or o.finished_at is not null or o.progress #> '{archiving,archive_id}' is distinct from to_jsonb(u.archive_id)
     order by u.archive_id for update of u skip locked
  loop
    delete from archived_messages m
     where m.archive_id = v_archive_id
       and m.position <= (select min(f.position) from archived_messages f where f.archive_id = v_archive_id) + p_limit - v_count - 1;
    get diagnostics v_deleted = row_count;
    v_count := v_count + v_deleted;
    if not exists (select from archived_messages m where m.archive_id = v_archive_id) then
      delete from unfinished_archives u where u.archive_id = v_archive_id;
    end if;
    exit when v_count >= p_limit;
  end loop;
  return v_count;
end $$;
