import { ownedParameters } from '../../provider/run-parameters.ts'
import { fieldTable } from './field-table.ts'
import { type FixedObject, fixedAlternative } from './json-schema.ts'
import { indent, jsonb, text, textArray } from './literals.ts'
import { ruleCheck } from './value-check.ts'

type Operations = Record<string, FixedObject>

/** A PL/pgSQL block that raises: it finds the first thing that is wrong and says what to write instead. */
export const explanation = (operations: Operations): string => `declare
  v_constraint text := 'operation_data_is_valid';
  v_message text;
  v_hint text;
  v_operations text[] := ${textArray(Object.keys(operations))};
  v_is_known boolean := coalesce(p_operation = any (v_operations), false);
  v_known text[];      -- fields of this operation; one inside another is written outer.inner
  v_elsewhere jsonb;   -- fields of the other operations, and which these are
  v_missing text;      -- a required field that is not there
  v_wrong text;        -- a field with a wrong value
  v_must_be text;
  v_value jsonb;
  v_unknown text;      -- a key that is no field of this operation
  v_beside text[];     -- the names it could have meant
  v_nearest text;      -- the one that it probably meant
  v_broken_rule text;
  v_example jsonb;
begin
  v_example := case p_operation
    ${indent(examples(operations), 4)}
  end;

  select coalesce(array_agg(name) filter (where mine), '{}'),
         jsonb_object_agg(name, array_to_string(operations, ' and ')) filter (where not mine),
         (array_agg(name) filter (where mine and required and p_data #> path is null
            and jsonb_typeof(p_data #> path[:cardinality(path) - 1]) = 'object'))[1],
         (array_agg(name) filter (where mine and not valid))[1],
         (array_agg(must_be) filter (where mine and not valid))[1]
    into v_known, v_elsewhere, v_missing, v_wrong, v_must_be
    from (values
      ${indent(fieldTable(operations), 6)}
    ) as field (path, operations, required, valid, must_be),
    lateral (select array_to_string(path, '.') as name,
                    p_operation is not null and p_operation = any (operations) as mine) as named;
  v_value := p_data #> string_to_array(v_wrong, '.');

  if jsonb_typeof(p_data) is distinct from 'object' then
    v_wrong := 'data';
    v_must_be := 'an object';
    v_value := coalesce(p_data, 'null');
  else
    select prefix || key into v_unknown
      from (values ${indent(parents(operations), 6)}) as parent (prefix, value),
      lateral jsonb_object_keys(case jsonb_typeof(value) when 'object' then value else '{}' end) as key
     where v_is_known and (key like '%.%' or prefix || key <> all (v_known))
       and (prefix = '' or rtrim(prefix, '.') = any (v_known))
     limit 1;
    v_broken_rule := ${indent(brokenRule(operations), 4)};
  end if;

  v_beside := case
    when v_unknown is null then v_operations
    else array(select name from unnest(v_known) as name
                where substring(name from '^.*\\.') is not distinct from substring(v_unknown from '^.*\\.'))
  end;
  -- The most letter pairs in common.
  select name into v_nearest
    from (select coalesce(v_unknown, p_operation) as given) as word,
    unnest(v_beside) as name,
    lateral (select lower(translate(name, '_', '')) as a, lower(translate(given, '_- ', '')) as b) as plain,
    lateral (select 2.0 * count(*) / greatest(length(a) + length(b) - 2, 1) as similarity
               from generate_series(1, length(a) - 1) as i
              where strpos(b, substr(a, i, 2)) > 0) as pairs
   where similarity > 0.4
   order by similarity desc
   limit 1;

  if not v_is_known then
    v_constraint := 'operation_is_known';
    v_message := coalesce('unknown operation "' || left(p_operation, 60) || '"', 'operation is missing');
    v_hint := concat_ws(' ', 'Did you mean "' || v_nearest || '"?',
      'Known operations: ' || array_to_string(v_operations, ', ') || '.');
  elsif v_unknown is not null then
    v_message := format('unknown key "%s" in data of %s', left(v_unknown, 60), p_operation);
    v_hint := case
      when v_unknown = any (${textArray(ownedParameters)}) then
        format('inturn sets "%s" itself; leave it out.', v_unknown)
      when v_elsewhere ? v_unknown then
        format('"%s" belongs to %s.', v_unknown, v_elsewhere->>v_unknown)
      when v_nearest is not null then format('Did you mean "%s"?', v_nearest)
      else 'Known keys: ' || array_to_string(v_beside, ', ') || '.'
    end;
  elsif v_wrong = 'data' or v_missing is null and v_wrong is not null then
    v_message := format('"%s" of %s must be %s, but it is %s', v_wrong, p_operation, v_must_be,
      case jsonb_typeof(v_value) when 'object' then 'an object' when 'array' then 'an array' when 'null' then 'null'
        else format('the %s %s', jsonb_typeof(v_value), left(v_value::text, 60)) end);
    v_hint := case
      when v_must_be ~ 'object|array' and v_value #>> '{}' ~ '^\\s*[[{]' and jsonb_typeof(v_value) = 'string' then
        'It looks like JSON that was encoded twice: send the JSON itself, not a string that contains it.'
      when v_must_be ~ 'object' and v_value = '[]' then
        'PHP encodes an empty array as []: write new stdClass() where {} is meant.'
      when v_must_be ~ 'number|true' and v_value::text ~ '^"(-?[0-9.]+|true|false)"$' then
        format('Write %s without quotes.', v_value #>> '{}')
    end;
  elsif v_missing is not null then
    v_message := format('"%s" is missing in data of %s', v_missing, p_operation);
  else
    v_message := concat_ws(': ', format('data of %s is not valid', p_operation), v_broken_rule);
  end if;

  raise exception using errcode = 'check_violation', constraint = v_constraint, message = v_message,
    hint = concat_ws(' ', v_hint, 'Valid data of ' || p_operation || ': ' || v_example);
end;`

function examples(operations: Operations): string {
  return Object.entries(operations)
    .map(([name, { examples }]) => `when ${text(name)} then ${jsonb(examples[0] ?? {})}`)
    .join('\n')
}

function brokenRule(operations: Operations): string {
  const cases = Object.entries(operations).flatMap(([name, { rules }]) =>
    rules.map(
      (rule) =>
        `  when p_operation = ${text(name)} and not ${ruleCheck(rule, 'p_data')} then ${text(rule.message)}`,
    ),
  )
  return cases.length ? `case\n${cases.join('\n')}\nend` : 'null'
}

/** Objects whose keys are fixed: the data itself, and fields of it that are such objects. */
function parents(operations: Operations): string {
  const fields = Object.values(operations).flatMap((operation) => operation.fields)
  const nested = fields.filter((field) => fixedAlternative(field.schema))
  const names = new Set(nested.map((field) => field.name))
  return [
    "('', p_data)",
    ...[...names].map((name) => `(${text(`${name}.`)}, p_data->${text(name)})`),
  ].join(', ')
}
