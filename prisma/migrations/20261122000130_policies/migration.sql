-- Policies: which row of thread_policies counts for a thread. Looked up anew whenever it matters, so a
-- change takes effect at once.

-- Which of its keys a thread has, in words: `user`, `user+topic`, … or `none`.
create function pattern_of(p_user_id text, p_session_id text, p_topic text) returns text language sql immutable parallel safe as $$
  select coalesce(nullif(concat_ws('+', case when p_user_id is not null then 'user' end,
                                        case when p_session_id is not null then 'session' end,
                                        case when p_topic is not null then 'topic' end), ''), 'none')
$$;

-- The policy of a thread: the one that it names, else that of its pattern, else that of the pattern
-- `any`. No row where there is none. Parsed here and now, because views call it from sessions that look
-- elsewhere for their tables.
create function policy_of(p_policy text, p_user_id text, p_session_id text, p_topic text) returns setof thread_policies
language sql stable rows 1 begin atomic
  select p.* from thread_policies p
   where case when p_policy is not null then p.name = p_policy
              else p.pattern in (pattern_of(p_user_id, p_session_id, p_topic), 'any') end
   order by p.pattern = 'any' limit 1;
end;

create function check_thread_policy() returns trigger language plpgsql security definer set search_path from current as $$
begin
  if not exists (select from thread_policies p where p.name = new.policy) then
    raise check_violation using
      constraint = 'thread_policy_exists',
      message = format('there is no policy %L', new.policy),
      hint = 'Write the name of a row of thread_policies, or null for the policy of the thread''s pattern.';
  end if;
  return new;
end $$;

create trigger check_thread_policy before insert or update of policy on threads
  for each row when (new.policy is not null) execute function check_thread_policy();

create function refuse_delete_of_used_policy() returns trigger language plpgsql security definer set search_path from current as $$
declare
  v_thread text := (select t.id from threads t where t.policy = old.name limit 1);
begin
  if v_thread is not null then
    raise check_violation using
      constraint = 'policy_is_not_in_use',
      message = format('policy %L is that of thread %L', old.name, v_thread),
      hint = format('Give its threads another one first: UPDATE threads SET policy = NULL WHERE policy = %L;', old.name);
  end if;
  return old;
end $$;

create trigger refuse_delete_of_used_policy before delete on thread_policies
  for each row execute function refuse_delete_of_used_policy();

create function stamp_policy() returns trigger language plpgsql as $$
begin
  new.updated_at := clock_timestamp();
  return new;
end $$;

create trigger stamp_policy before update on thread_policies
  for each row execute function stamp_policy();

-- What the sweeps walk: the threads that have a provider thread, by the policy that counts for them and
-- by how long ago they were active or began. last_active_at is written once a minute, so that a busy thread
-- is seldom written here.
create index threads_by_activity on threads (policy, pattern_of(user_id, session_id, topic), last_active_at)
  where provider_thread_id is not null and closed_at is null and lifecycle_operation_id is null;
create index threads_by_generation on threads (policy, pattern_of(user_id, session_id, topic), generation_since)
  where provider_thread_id is not null and closed_at is null and lifecycle_operation_id is null;
