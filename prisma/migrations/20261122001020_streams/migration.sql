-- Streams: what the runs of an operation say while they go on, written down piece by piece and for a
-- short time. A stream is no truth: an operation is settled without it, and `result` tells how it ended.

create table operation_stream (
  operation_id  bigint not null,
  first_seq     bigint not null,
  last_seq      bigint not null,
  events        jsonb not null,
  at            timestamptz(6) not null default clock_timestamp(),
  primary key (operation_id, first_seq)
) with (
  -- All of it is deleted again soon.
  autovacuum_vacuum_scale_factor = 0.05
);

-- One entry for each stream, by its beginning: those that are too old are found by it.
create index streams_by_age on operation_stream (at) where first_seq = 1;

-- Appends one piece to each of these streams, in the name of a claim: p_ids[n] was claimed by
-- p_dispatchers[n] as p_attempts[n], and p_events[n] is an array of what it said since. The numbers are
-- given here, 1, 2, 3 … for each operation. Returns the operations whose claim still counts, and whether
-- the piece is there; if not, an earlier holder of the claim has just written under the same number.
create function append_to_streams(p_dispatchers text[], p_ids bigint[], p_attempts integer[], p_events jsonb[])
returns table (id bigint, written boolean)
language plpgsql security definer
  set search_path from current set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
  set enable_material = off set jit = off set lock_timeout = '100ms'
as $$
begin
  -- It need not survive a crash of the server by itself: the commit that settles the operation comes later.
  perform set_config('synchronous_commit', 'off', true);
  return query
  with piece as (
    select o.id, p.events,
           coalesce((select s.last_seq from operation_stream s
                      where s.operation_id = o.id order by s.first_seq desc limit 1), 0) as said
      from unnest(p_dispatchers, p_ids, p_attempts, p_events) as p (dispatcher, id, attempts, events)
      join thread_operations o on o.id = p.id and o.claimed_by = p.dispatcher and o.attempts = p.attempts
  ), appended as (
    insert into operation_stream (operation_id, first_seq, last_seq, events)
    select piece.id, piece.said + 1, piece.said + jsonb_array_length(piece.events), piece.events from piece
        on conflict do nothing
    returning operation_id
  )
  select piece.id, appended.operation_id is not null
    from piece left join appended on appended.operation_id = piece.id;
end $$;

-- Deletes up to p_limit streams whose operation was over p_retention_ms ago. An unfinished one keeps its
-- stream. Returns how many. Any number of dispatchers share the work.
create function delete_old_streams(p_retention_ms bigint, p_limit integer) returns integer
language plpgsql security definer
  set search_path from current set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
  set jit = off set lock_timeout = '100ms'
as $$
declare
  v_before timestamptz := clock_timestamp() - p_retention_ms * interval '1 millisecond';
  v_old bigint[];
begin
  v_old := array(
    select s.operation_id from operation_stream s
     where s.first_seq = 1 and s.at < v_before
       and not exists (select from thread_operations o
                        where o.id = s.operation_id and coalesce(o.finished_at, 'infinity') >= v_before)
     order by s.at limit p_limit for update skip locked);
  delete from operation_stream s where s.operation_id = any (v_old);
  return cardinality(v_old);
end $$;

-- Who deletes an operation deletes what it said.
create function forget_streams() returns trigger language plpgsql security definer
  set search_path from current set enable_seqscan = off
as $$
begin
  delete from operation_stream s using old_rows o where s.operation_id = o.id;
  return null;
end $$;

create trigger forget_streams after delete on thread_operations
  referencing old table as old_rows for each statement execute function forget_streams();
