-- What the shop keeps: customers with two columns that agents must not see, and their orders.
create table customers (
    id          int primary key,
    name        text not null,
    city        text not null,
    ssn         text not null,
    card_number bigint not null
);
insert into customers values
    (1, 'Ada Osei',      'Accra',     '123-45-6789', 4111111111111111),
    (2, 'Grace Lindqvist', 'Malmö',   '987-65-4321', 5500005555555559),
    (3, 'Edsger Vos',    'Rotterdam', '555-44-3333', 340000000000009),
    (4, 'Barbara Ito',   'Osaka',     '222-33-4444', 6011000000000004);
create table orders (
    id          int primary key,
    customer_id int not null references customers,
    total       numeric(10, 2) not null
);
insert into orders select n, 1 + n % 4, 10 + n * 1.25 from generate_series(1, 200) n;
