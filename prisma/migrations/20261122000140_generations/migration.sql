-- Generations: every provider thread that a thread ever had. No provider lists its threads, so this is
-- the only inventory, and it is written by whatever changes threads.provider_thread_id. Whoever takes the
-- provider thread away says why before, in thread_generations.ended_by.

-- What the operations of a thread have added to it before a turn: as the last of them wrote it down, or,
-- where that was deleted, as it was kept on the thread.
create function thread_totals(
  p_thread_id text, p_before bigint, out messages bigint, out runs bigint, out input_tokens bigint, out output_tokens bigint)
language sql stable begin atomic
  select coalesce(last.messages_so_far, t.messages_so_far, 0), coalesce(last.runs_so_far, t.runs_so_far, 0),
         coalesce(last.input_tokens_so_far, t.input_tokens_so_far, 0), coalesce(last.output_tokens_so_far, t.output_tokens_so_far, 0)
    from (values (p_thread_id)) as thread (id)
    left join threads t on t.id = thread.id
    left join lateral (
      -- What was cancelled between two attempts wrote down nothing; more than a few in a row are not looked at.
      select latest.* from (
        select o.turn, o.messages_so_far, o.runs_so_far, o.input_tokens_so_far, o.output_tokens_so_far
          from thread_operations o
         where o.thread_id = thread.id and o.turn < p_before
         order by o.turn desc limit 20) as latest
       where latest.messages_so_far is not null
       order by latest.turn desc limit 1) as last on true;
end;

create function number_generation() returns trigger language plpgsql as $$
begin
  new.generation := new.generation + 1;
  new.generation_since := clock_timestamp();
  return new;
end $$;

-- After the change, because the row of an upsert that meets another is not inserted.
create function keep_generations() returns trigger language plpgsql security definer set search_path from current as $$
begin
  if tg_op = 'UPDATE' and old.provider_thread_id is not null then
    update thread_generations g
       set ended_at = clock_timestamp(), ended_by = coalesce(g.ended_by, 'replaced')
     where g.thread_id = old.id and g.generation = old.generation;
  end if;
  if new.provider_thread_id is not null then
    insert into thread_generations (thread_id, generation, provider, provider_thread_id, messages_before, tokens_before, started_at)
    select new.id, new.generation, new.provider, new.provider_thread_id,
           so_far.messages, so_far.input_tokens + so_far.output_tokens, new.generation_since
      from thread_totals(new.id, 9223372036854775807) as so_far;
  end if;
  return null;
end $$;

create trigger number_first_generation before insert on threads
  for each row when (new.provider_thread_id is not null) execute function number_generation();
create trigger number_generation before update on threads
  for each row when (new.provider_thread_id is distinct from old.provider_thread_id and new.provider_thread_id is not null)
  execute function number_generation();
create trigger keep_first_generation after insert on threads
  for each row when (new.provider_thread_id is not null) execute function keep_generations();
create trigger keep_generations after update on threads
  for each row when (new.provider_thread_id is distinct from old.provider_thread_id) execute function keep_generations();

-- Whether an operation of this kind is about the thread's life, and no sign of it.
create function keeps_thread(p_operation text) returns boolean language sql immutable parallel safe as $$
  select p_operation in ('archive_thread', 'rotate_thread', 'fork_thread', 'restore_thread', 'expire_thread', 'delete_thread')
$$;
