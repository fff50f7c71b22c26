// What a Node application does with a database by way of npm's pg: prints what it saw as one JSON
// object. The connection is what PGHOST and so on say; with PGSSLROOTCERT it uses TLS.
"use strict";

const fs = require("fs");
const { pipeline } = require("stream/promises");
const { Readable, Writable } = require("stream");
const { Client, Pool, Query } = require("pg");
const Cursor = require("pg-cursor");
const QueryStream = require("pg-query-stream");
const copy = require("pg-copy-streams");

const authority = process.env.PGSSLROOTCERT;
const options = authority ? { ssl: { ca: fs.readFileSync(authority, "utf8") } } : {};

async function failure(promise) {
    try {
        await promise;
        return "no error";
    } catch (error) {
        return { code: error.code, message: error.message, position: error.position };
    }
}

// A cancel as pg's own clients send it: another connection, with the key of the first.
function cancel(client, query) {
    const other = new Client(options);
    return new Promise((done) => {
        other.connection.once("end", done);
        other.cancel(client, query);
    });
}

async function everything() {
    const seen = {};
    const pool = new Pool({ ...options, max: 4 });
    const client = await pool.connect();
    seen.process = (await client.query("select pg_backend_pid() as pid")).rows[0].pid === client.processID;
    await client.query("create temp table n (id int primary key, word text, data jsonb, at timestamptz)");
    for (let id = 1; id <= 20; id += 1) {
        await client.query({
            name: "insert", text: "insert into n values ($1, $2, $3, $4)",
            values: [id, "wörd " + id, { id }, new Date(0)],
        });
    }
    const all = await client.query("select * from n order by id");
    seen.rows = all.rows;
    seen.fields = all.fields.map((field) => [field.name, field.dataTypeID, field.format]);
    seen.binary = (await client.query({ text: "select $1::int4 as n", values: [7], binary: true })).rows;
    seen.array = (await client.query({ text: "select 1, array[1, 2], null", rowMode: "array" })).rows;
    seen.several = (await client.query("select 1 as a; select 2 as b")).map((one) => one.rows);
    seen.noSuchTable = await failure(client.query("select * from nowhere"));
    seen.unique = await failure(client.query("insert into n values (1)"));

    await client.query("begin");
    seen.inBlock = await failure(client.query("select 1 / 0"));
    seen.aborted = await failure(client.query("select 1"));
    await client.query("rollback");

    const cursor = client.query(new Cursor("select id from n where id > $1 order by id", [5]));
    seen.cursor = [(await cursor.read(3)).length, (await cursor.read(100)).length];
    await cursor.close();
    let streamed = 0;
    for await (const row of client.query(new QueryStream("select generate_series(1, 5000) as g", [], { batchSize: 64 }))) {
        streamed += row.g;
    }
    seen.streamed = streamed;

    await pipeline(Readable.from(["101\tcopied\n", "102\t\\N\n"]), client.query(copy.from("copy n (id, word) from stdin")));
    const chunks = [];
    await pipeline(client.query(copy.to("copy (select id, word from n where id > 100 order by 1) to stdout")),
        new Writable({ write(chunk, _, next) { chunks.push(chunk); next(); } }));
    seen.copied = Buffer.concat(chunks).toString();

    const heard = new Promise((done) => { client.once("notification", done); });
    await client.query("listen news");
    await client.query("notify news, 'hello'");
    const { channel, payload, processId } = await heard;
    seen.notification = [channel, payload, processId === client.processID];

    const noticed = new Promise((done) => { client.once("notice", done); });
    await client.query("do $$ begin raise notice 'look'; end $$");
    seen.notice = (await noticed).message;

    // Sent ahead without waiting; the pool opens more connections.
    seen.ahead = (await Promise.all(Array.from({ length: 50 }, (_, n) => pool.query("select $1::int as n", [n]))))
        .map((one) => one.rows[0].n);

    const sleep = new Query("select pg_sleep(60)");
    const ended = new Promise((done) => { sleep.once("error", (error) => done(error.code)); });
    client.query(sleep);
    setTimeout(() => cancel(client, sleep), 300);
    seen.cancelled = await ended;
    client.release();
    await pool.end();
    return seen;
}

everything().then((seen) => console.log(JSON.stringify(seen)), (error) => {
    console.error(error);
    process.exit(1);
});
