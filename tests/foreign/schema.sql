-- A schema with one of everything that catalogue queries show.
create schema shop;
create type shop.mood as enum ('sad', 'ok', 'happy');
create domain shop.cents as bigint check (value >= 0);
create type shop.pair as (a int, b text);
create sequence shop.numbers start 100;
create table shop.people (
    id int generated always as identity primary key,
    name text not null default 'nobody', email text unique, mood shop.mood default 'ok',
    born date check (born > '1900-01-01'), tags text[], data jsonb,
    upper_name text generated always as (upper(name)) stored);
comment on table shop.people is 'Who buys';
comment on column shop.people.name is 'As they call themselves';
create table shop.orders (
    id bigserial primary key, person int not null references shop.people on delete cascade,
    total shop.cents not null, placed timestamptz not null default '2026-01-02 03:04:05+00');
create index orders_by_person on shop.orders (person) include (total) where total > 0;
create table shop.events (at date not null, what text) partition by range (at);
create table shop.events_2026 partition of shop.events
    for values from ('2026-01-01') to ('2027-01-01');
create table shop."Größe" ("Schlüssel" int primary key, wert numeric(10, 2));
create view shop.spenders as
    select p.name, sum(o.total) as spent from shop.people p join shop.orders o on o.person = p.id
    group by p.name;
create materialized view shop.moods as select mood, count(*) from shop.people group by mood;
create function shop.twice(n int) returns int language sql immutable as 'select n * 2';
create function shop.note() returns trigger language plpgsql as $$
begin insert into shop.events values ('2026-05-05', tg_op); return new; end $$;
create trigger noted after insert on shop.orders for each row execute function shop.note();
alter table shop.people enable row level security;
create policy everybody on shop.people using (true);
create statistics shop.together on name, email from shop.people;
insert into shop.people (name, email, mood, born, tags, data)
    select 'person ' || n, n || '@example.com', (array['sad', 'ok', 'happy'])[1 + n % 3]::shop.mood,
        date '2000-01-01' + n, array['a', n::text], jsonb_build_object('n', n)
    from generate_series(1, 300) n;
insert into shop.orders (person, total) select 1 + n % 300, n from generate_series(1, 1000) n;
insert into shop."Größe" values (1, 1.5), (2, null);
select lo_from_bytea(4242, decode(repeat('00ff', 5000), 'hex'));
refresh materialized view shop.moods;
