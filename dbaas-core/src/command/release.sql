DO $dbaas$
-- A bounded number of the things that keep a role from being dropped, in this database: what it owns goes to its heir, what it was granted is
-- taken away by who granted it, and policies forget it. What no lock table can hold all at once, REASSIGN OWNED and DROP OWNED do afterwards.
DECLARE
 role_oid oid := current_setting('dbaas.role')::oid;
 heir text := current_setting('dbaas.heir');
 role_name text := (SELECT rolname FROM pg_roles WHERE oid = role_oid);
 privileges bool := current_setting('dbaas.privileges')::bool;
 budget int := current_setting('dbaas.locks')::int;
 here oid := (SELECT oid FROM pg_database WHERE datname = current_database());
 locked oid[] := coalesce((SELECT array_agg(DISTINCT relation) FROM pg_locks WHERE locktype = 'relation' AND granted
   AND database = here AND pid <> pg_backend_pid()), '{}');
 moved int := 0; spent int := 0; d record; grantor oid;
BEGIN
 FOR d IN SELECT s.deptype, s.classid, s.objid, c.relkind, n.nspname, c.relname, p.polname, p.polroles, pc.relname AS poltable, pn.nspname AS polschema,
   coalesce(c.oid, p.polrelid, s.objid) AS relation, coalesce(c.oid, p.polrelid) = ANY (locked) AS busy,
   1 + coalesce((SELECT count(*) FROM pg_index i WHERE i.indrelid = c.oid), 0)
     + CASE WHEN c.reltoastrelid <> 0 THEN 2 ELSE 0 END
     + coalesce((SELECT count(*) FROM pg_depend q WHERE q.refclassid = 'pg_class'::regclass AND q.refobjid = c.oid AND q.refobjsubid > 0
         AND q.classid = 'pg_class'::regclass AND q.deptype IN ('a', 'i')), 0) AS locks
  FROM pg_shdepend s
  LEFT JOIN pg_class c ON s.classid = 'pg_class'::regclass AND c.oid = s.objid AND s.dbid = here
  LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_policy p ON s.classid = 'pg_policy'::regclass AND p.oid = s.objid AND s.dbid = here
  LEFT JOIN pg_class pc ON pc.oid = p.polrelid LEFT JOIN pg_namespace pn ON pn.oid = pc.relnamespace
  WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = role_oid AND (s.dbid = here OR s.dbid = 0 AND s.deptype = 'a')
  AND (privileges OR s.deptype = 'o')
  AND CASE s.deptype
   WHEN 'o' THEN c.relkind IN ('r', 'p', 'v', 'm', 'f') OR c.relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend q
       WHERE q.classid = 'pg_class'::regclass AND q.objid = c.oid AND q.deptype IN ('a', 'i') AND q.refclassid = 'pg_class'::regclass)
     OR s.classid IN ('pg_proc'::regclass, 'pg_type'::regclass, 'pg_largeobject'::regclass)
   WHEN 'a' THEN s.classid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass, 'pg_namespace'::regclass, 'pg_language'::regclass,
     'pg_foreign_data_wrapper'::regclass, 'pg_foreign_server'::regclass, 'pg_largeobject'::regclass, 'pg_database'::regclass, 'pg_tablespace'::regclass)
   WHEN 'r' THEN p.oid IS NOT NULL ELSE false END
  ORDER BY s.deptype = 'a', busy NULLS FIRST, CASE WHEN coalesce(c.oid, p.polrelid) = ANY (locked) THEN random() END, s.classid, s.objid
  LIMIT budget
 LOOP
  spent := spent + d.locks;
  EXIT WHEN moved > 0 AND spent > budget;
  -- What somebody holds is tried only when nothing else is left.
  EXIT WHEN moved > 0 AND d.busy;
  BEGIN
   IF d.deptype = 'o' THEN
    EXECUTE format('ALTER %s OWNER TO %I', CASE
      WHEN d.relkind IS NOT NULL THEN CASE d.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE'
        WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END || format(' %I.%I', d.nspname, d.relname)
      WHEN d.classid = 'pg_proc'::regclass THEN 'ROUTINE ' || d.objid::regprocedure::text
      WHEN d.classid = 'pg_type'::regclass THEN 'TYPE ' || d.objid::regtype::text
      ELSE 'LARGE OBJECT ' || d.objid::text END, heir);
   ELSIF d.deptype = 'r' THEN
    IF d.polroles = ARRAY[role_oid] THEN
     EXECUTE format('DROP POLICY %I ON %I.%I', d.polname, d.polschema, d.poltable);
    ELSE
     EXECUTE format('ALTER POLICY %I ON %I.%I TO %s', d.polname, d.polschema, d.poltable,
      (SELECT string_agg(CASE WHEN m = 0 THEN 'PUBLIC' ELSE format('%I', pg_get_userbyid(m)) END, ', ')
       FROM unnest(d.polroles) m WHERE m <> role_oid));
    END IF;
   ELSE
    FOR grantor IN SELECT DISTINCT x.grantor FROM (
      SELECT relacl AS acl FROM pg_class WHERE d.classid = 'pg_class'::regclass AND oid = d.objid
      UNION ALL SELECT attacl FROM pg_attribute WHERE d.classid = 'pg_class'::regclass AND attrelid = d.objid
      UNION ALL SELECT proacl FROM pg_proc WHERE d.classid = 'pg_proc'::regclass AND oid = d.objid
      UNION ALL SELECT typacl FROM pg_type WHERE d.classid = 'pg_type'::regclass AND oid = d.objid
      UNION ALL SELECT nspacl FROM pg_namespace WHERE d.classid = 'pg_namespace'::regclass AND oid = d.objid
      UNION ALL SELECT lanacl FROM pg_language WHERE d.classid = 'pg_language'::regclass AND oid = d.objid
      UNION ALL SELECT fdwacl FROM pg_foreign_data_wrapper WHERE d.classid = 'pg_foreign_data_wrapper'::regclass AND oid = d.objid
      UNION ALL SELECT srvacl FROM pg_foreign_server WHERE d.classid = 'pg_foreign_server'::regclass AND oid = d.objid
      UNION ALL SELECT lomacl FROM pg_largeobject_metadata WHERE d.classid = 'pg_largeobject'::regclass AND oid = d.objid
      UNION ALL SELECT datacl FROM pg_database WHERE d.classid = 'pg_database'::regclass AND oid = d.objid
      UNION ALL SELECT spcacl FROM pg_tablespace WHERE d.classid = 'pg_tablespace'::regclass AND oid = d.objid) a, aclexplode(a.acl) x
      WHERE x.grantee = role_oid
    LOOP
     EXECUTE format('SET LOCAL ROLE %I', pg_get_userbyid(grantor));
     EXECUTE format('REVOKE ALL ON %s FROM %I CASCADE', CASE d.classid
       WHEN 'pg_class'::regclass THEN CASE d.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END || format(' %I.%I', d.nspname, d.relname)
       WHEN 'pg_proc'::regclass THEN 'ROUTINE ' || d.objid::regprocedure::text
       WHEN 'pg_type'::regclass THEN 'TYPE ' || d.objid::regtype::text
       WHEN 'pg_namespace'::regclass THEN format('SCHEMA %I', (SELECT nspname FROM pg_namespace WHERE oid = d.objid))
       WHEN 'pg_language'::regclass THEN format('LANGUAGE %I', (SELECT lanname FROM pg_language WHERE oid = d.objid))
       WHEN 'pg_foreign_data_wrapper'::regclass THEN format('FOREIGN DATA WRAPPER %I', (SELECT fdwname FROM pg_foreign_data_wrapper WHERE oid = d.objid))
       WHEN 'pg_foreign_server'::regclass THEN format('FOREIGN SERVER %I', (SELECT srvname FROM pg_foreign_server WHERE oid = d.objid))
       WHEN 'pg_database'::regclass THEN format('DATABASE %I', (SELECT datname FROM pg_database WHERE oid = d.objid))
       WHEN 'pg_tablespace'::regclass THEN format('TABLESPACE %I', (SELECT spcname FROM pg_tablespace WHERE oid = d.objid))
       ELSE 'LARGE OBJECT ' || d.objid::text END, role_name);
     SET LOCAL ROLE NONE;
    END LOOP;
   END IF;
   IF d.deptype <> 'a' AND EXISTS (SELECT FROM pg_shdepend s WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = role_oid
     AND s.dbid = here AND s.classid = d.classid AND s.objid = d.objid AND s.deptype = d.deptype) THEN
    -- Somebody renamed it, or its schema, since it was looked up: this was another one's, and is undone.
    RAISE EXCEPTION 'an object was renamed while it was given away' USING ERRCODE = 'serialization_failure';
   END IF;
   moved := moved + 1;
  EXCEPTION
   WHEN lock_not_available THEN
    PERFORM set_config('dbaas.waited_for', pg_describe_object(d.classid, d.objid, 0), true),
     set_config('dbaas.waited_oid', d.relation::text, true);
    EXIT;
   WHEN undefined_object OR undefined_table OR undefined_function OR insufficient_privilege OR dependent_objects_still_exist THEN
    -- Gone meanwhile, or what comes after this takes care of it.
    spent := spent;
  END;
 END LOOP;
 PERFORM set_config('dbaas.moved', moved::text, true);
END $dbaas$
