-- Stands in for Citus on a plain PostgreSQL: what is distributed is noted, and nothing is moved.
create table pg_dist_partition (logicalrelid regclass, partmethod "char");
create table pg_dist_local_group (groupid int);
insert into pg_dist_local_group values (0);
create table pg_dist_node (nodeid int, nodename text, nodeport int);
insert into pg_dist_node values (1, 'coordinator', 5432), (2, 'worker', 5432);

create function create_reference_table(table_name regclass) returns void language sql as
    $$ insert into pg_dist_partition values (table_name, 'n') $$;

create function create_distributed_table(
    table_name regclass, distribution_column text, distribution_type text default 'hash',
    colocate_with text default 'default', shard_count int default null
) returns void language plpgsql as $$
begin
    if colocate_with <> 'none'
        and not exists (select from pg_dist_partition where logicalrelid = colocate_with::regclass) then
        raise '% is not distributed', colocate_with;
    end if;
    if current_setting('stub.fails_at', true) = table_name::text then
        raise 'the copy of % fails', table_name;
    end if;
    insert into pg_dist_partition values (table_name, 'h');
end $$;

-- The node with id 2 has the settings of `stub.worker`, if there are any.
create function run_command_on_all_nodes(command text, out nodeid int, out success bool, out result text)
returns setof record language plpgsql as $$
begin
    success := true;
    nodeid := 1;
    execute command into result;
    return next;
    nodeid := 2;
    result := coalesce(nullif(current_setting('stub.worker', true), ''), result);
    return next;
    nodeid := 3;
    success := false;
    result := 'failed to connect';
    return next;
end $$;
