-- Users: how many runs go on at once on behalf of one user_id, that of the operation or else that of its
-- thread, whatever the key and model.

-- Takes a place for the run that this claim is about to start on behalf of a user. False: the user has
-- p_max_runs going on, or somebody asks for him at this moment and does not come to an end. As in a
-- lane, a place is kept by what the operation's row says and by nothing else.
create function enter_user(p_dispatcher text, p_id bigint, p_attempts integer, p_user_id text, p_max_runs integer) returns boolean
language plpgsql security definer
  set search_path from current set lock_timeout = '500ms' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
  -- One after the other; each statement below sees all that those before have committed.
  perform pg_advisory_xact_lock(hashtextextended(current_schema() || ' inturn user ' || p_user_id, 0));
  delete from user_runs r
   where r.user_id = p_user_id
     and not exists (select from thread_operations o where o.id = r.operation_id and holds_place(o));
  if (select count(*) from user_runs r where r.user_id = p_user_id and r.operation_id <> p_id) >= p_max_runs then
    return false;
  end if;
  insert into user_runs (operation_id, user_id)
  select o.id, p_user_id from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts
      on conflict (operation_id) do nothing;
  return true;
exception when lock_not_available or deadlock_detected then
  return false;
end $$;
