-- The retry policy that an operation may bring along. src/model/retry.ts says the same in zod; a test
-- tries the same cases on both.

-- True, or it raises and says what to write instead.
create function check_retry_policy(p_retry jsonb) returns boolean language plpgsql immutable parallel safe as $$
declare
  v_classes text[] := '{connection,server,run,internal}';
  v_highest jsonb := '{"max_attempts": 1000, "base_ms": 86400000, "max_ms": 86400000}';
  v_problem text;
begin
  if jsonb_typeof(p_retry) <> 'object' then
    v_problem := '"retry" must be an object';
  else
    select case
             when jsonb_typeof(place.limits) <> 'object' then format('"%s" must be an object', place.class)
             when v_highest ? one.key then
               format('"%s" must be a whole number from 1 to %s', concat_ws('.', place.class, one.key), v_highest ->> one.key)
             else format('unknown key "%s"', concat_ws('.', place.class, left(one.key, 60))) end
      into v_problem
      from (select null as class, p_retry - v_classes as limits
            union all
            select class, p_retry -> class from unnest(v_classes) as class where p_retry ? class) as place
      left join lateral jsonb_each(case jsonb_typeof(place.limits) when 'object' then place.limits end) as one on true
     where jsonb_typeof(place.limits) <> 'object'
        or not v_highest ? one.key
        -- strict: a list of one number is no number
        or not coalesce(one.value @@ format('strict $ %% 1 == 0 && $ >= 1 && $ <= %s', coalesce(v_highest ->> one.key, '0'))::jsonpath, one.key is null)
     order by place.class nulls first, one.key
     limit 1;
  end if;
  if v_problem is not null then
    raise check_violation using
      constraint = 'retry_policy_is_valid',
      message = v_problem,
      hint = 'Leave retry out, or write limits for all errors and for classes of them (connection, server, run, internal): '
        '{"max_attempts": 5, "base_ms": 1000, "max_ms": 60000, "run": {"max_attempts": 2}}.';
  end if;
  return true;
end $$;
