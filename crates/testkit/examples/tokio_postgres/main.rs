//! What a Rust application does with a database by way of tokio-postgres: prints what it saw, line by
//! line. The connection is what `PGHOST` and so on say. tests/foreign/tokio_postgres.py compares.

mod tls;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, TryStreamExt, future, stream};
use tls::Tls;
use tokio::sync::mpsc;
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls, SimpleQueryMessage};

const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
const COPY_ROWS: i32 = 5_000;
const PIPELINED: i32 = 200;

/// What the server said by itself.
type Said = mpsc::Receiver<String>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let tls = Tls::of_environment()?;
    let (mut client, mut said) = connect(&tls).await?;
    types(&client).await?;
    own_types(&client).await?;
    pipeline(&client).await?;
    transactions(&mut client).await?;
    copies(&client).await?;
    simple(&client).await?;
    notifications(&client, &mut said).await?;
    cancel(&client, &tls).await?;
    without_tls().await
}

fn config() -> anyhow::Result<Config> {
    let read = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let mut config = Config::new();
    config
        .host(read("PGHOST")?)
        .port(read("PGPORT")?.parse()?)
        .user(read("PGUSER")?)
        .password(read("PGPASSWORD")?)
        .dbname(read("PGDATABASE")?)
        .application_name("an application in Rust")
        .options("-c search_path=shop,public")
        .connect_timeout(CONNECT_DEADLINE)
        .ssl_mode(tokio_postgres::config::SslMode::Require);
    Ok(config)
}

async fn connect(tls: &Tls) -> anyhow::Result<(Client, Said)> {
    let (client, mut connection) = config()?.connect(tls.clone()).await?;
    for name in ["server_encoding", "TimeZone", "integer_datetimes", "application_name"] {
        println!("parameter {name} {:?}", connection.parameter(name));
    }
    let (tell, said) = mpsc::channel(64);
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(message) = messages.next().await {
            let line = match message {
                Ok(AsyncMessage::Notice(notice)) => {
                    format!("notice {} {}", notice.code().code(), notice.message())
                }
                Ok(AsyncMessage::Notification(heard)) => {
                    format!("notification {} {}", heard.channel(), heard.payload())
                }
                Ok(_) => "something else".to_owned(),
                Err(error) => format!("the connection ended: {}", told(&error)),
            };
            if tell.send(line).await.is_err() {
                return;
            }
        }
    });
    Ok((client, said))
}

/// An error as a program looks at it.
fn told(error: &Error) -> String {
    match error.as_db_error() {
        Some(known) => format!("{} {} {}", known.severity(), known.code().code(), known.message()),
        None => error.to_string(),
    }
}

/// Parameters and results are always binary here.
async fn types(client: &Client) -> anyhow::Result<()> {
    let statement = client
        .prepare(
            "select $1::smallint, $2::int, $3::bigint, $4::real, $5::float8, $6::bool, $7::text,
                    $8::bytea, $9::int[], $10::timestamptz, $11::text, $12::\"char\", $13::oid",
        )
        .await?;
    println!("parameters {:?}", statement.params());
    let when = UNIX_EPOCH + Duration::from_micros(1_767_323_045_000_006);
    for round in 0..3_i32 {
        let row = client
            .query_one(
                &statement,
                &[
                    &-7_i16,
                    &round,
                    &i64::MAX,
                    &1.5_f32,
                    &f64::MIN_POSITIVE,
                    &true,
                    &"wörd 'quoted'",
                    &vec![0_u8, 255, 92],
                    &vec![Some(1_i32), None, Some(round)],
                    &when,
                    &None::<String>,
                    &65_i8,
                    &4_294_967_295_u32,
                ],
            )
            .await?;
        println!(
            "{} {} {} {} {} {} {} {:?} {:?} {} {:?} {} {}",
            row.get::<_, i16>(0),
            row.get::<_, i32>(1),
            row.get::<_, i64>(2),
            row.get::<_, f32>(3),
            row.get::<_, f64>(4),
            row.get::<_, bool>(5),
            row.get::<_, &str>(6),
            row.get::<_, &[u8]>(7),
            row.get::<_, Vec<Option<i32>>>(8),
            row.get::<_, SystemTime>(9) == when,
            row.get::<_, Option<String>>(10),
            row.get::<_, i8>(11),
            row.get::<_, u32>(12),
        );
    }
    let typed = client.query_typed("select $1 + 1", &[(&41_i32, Type::INT4)]).await?;
    println!("typed {}", typed[0].get::<_, i32>(0));
    Ok(())
}

/// The driver asks the catalogue for what it does not know: enums, domains, composites.
async fn own_types(client: &Client) -> anyhow::Result<()> {
    let statement = client
        .prepare("select 'happy'::mood, 5::cents, row(1, 'x')::pair, array['sad'::mood], $1::mood")
        .await?;
    for column in statement.columns() {
        println!("column {} {:?}", column.name(), column.type_().kind());
    }
    println!("{:?}", statement.params());
    match client.query("select * from nowhere", &[]).await {
        Ok(_) => println!("nowhere is a table"),
        Err(error) => println!("{} {:?}", told(&error), error.as_db_error().map(|e| e.position())),
    }
    Ok(())
}

async fn pipeline(client: &Client) -> anyhow::Result<()> {
    let statement = client.prepare("select $1::int * 2").await?;
    let asked = (0..PIPELINED).map(|number| {
        let statement = statement.clone();
        async move { client.query_one(&statement, &[&number]).await }
    });
    let sum: i32 = future::try_join_all(asked).await?.iter().map(|row| row.get::<_, i32>(0)).sum();
    println!("pipelined {sum}");
    let (first, broken, last) = future::join3(
        client.query_one("select 1", &[]),
        client.query_one("select 1 / $1::int", &[&0_i32]),
        client.query_one("select 3", &[]),
    )
    .await;
    println!("{:?} {:?}", first.is_ok(), last.is_ok());
    println!("{:?}", broken.err().as_ref().map(told));
    // A statement that nobody reads to its end, and one behind it.
    let rows = client.query_raw("select generate_series(1, $1::int)", [100_000_i32]).await?;
    drop(rows);
    println!("behind it {}", client.query_one("select 5", &[]).await?.get::<_, i32>(0));
    Ok(())
}

async fn transactions(client: &mut Client) -> anyhow::Result<()> {
    client.batch_execute("create temp table kept (n int primary key)").await?;
    let mut outer = client.transaction().await?;
    outer.execute("insert into kept values ($1)", &[&1_i32]).await?;
    {
        let inner = outer.savepoint("inside").await?;
        let twice = inner.execute("insert into kept values ($1)", &[&1_i32]).await;
        println!("{:?}", twice.err().as_ref().map(told));
        let after = inner.query("select 1", &[]).await;
        println!("{:?}", after.err().as_ref().map(told));
        inner.rollback().await?;
    }
    let portal = outer.bind("select generate_series(1, $1::int)", &[&7_i32]).await?;
    for _ in 0..3 {
        let rows = outer.query_portal(&portal, 3).await?;
        println!("portal {:?}", rows.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>());
    }
    outer.commit().await?;
    let dropped = client.transaction().await?;
    dropped.execute("insert into kept values (2)", &[]).await?;
    drop(dropped);
    let serial = client
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::Serializable)
        .read_only(true)
        .start()
        .await?;
    let row = serial.query_one("select count(*) from kept", &[]).await?;
    println!("kept {}", row.get::<_, i64>(0));
    let written = serial.execute("update shop.people set name = name", &[]).await;
    println!("{:?}", written.err().as_ref().map(told));
    Ok(())
}

async fn copies(client: &Client) -> anyhow::Result<()> {
    client.batch_execute("create temp table copied (n int, word text)").await?;
    let sink = client.copy_in("copy copied from stdin").await?;
    let mut sink = std::pin::pin!(sink);
    for number in 0..COPY_ROWS {
        sink.send(Bytes::from(format!("{number}\tword {number}\n"))).await?;
    }
    println!("copied {}", sink.finish().await?);
    let sink = client.copy_in("copy copied from stdin binary").await?;
    let mut writer = std::pin::pin!(BinaryCopyInWriter::new(sink, &[Type::INT4, Type::TEXT]));
    for number in 0..COPY_ROWS {
        writer.as_mut().write(&[&number, &"binary"]).await?;
    }
    println!("copied in binary {}", writer.finish().await?);
    let sink = client.copy_in::<_, Bytes>("copy copied from stdin").await?;
    drop(sink);
    let mut bad = std::pin::pin!(client.copy_in("copy copied from stdin").await?);
    bad.send(Bytes::from_static(b"no number\tx\n")).await?;
    println!("{:?}", bad.finish().await.err().as_ref().map(told));
    let text = client.copy_out("copy (select n from copied order by n limit 3) to stdout").await?;
    println!("{:?}", text.try_collect::<Vec<Bytes>>().await?.concat());
    let out = client.copy_out("copy (select n, word from copied) to stdout binary").await?;
    let rows = BinaryCopyOutStream::new(out, &[Type::INT4, Type::TEXT]);
    let sum =
        rows.try_fold(0_i64, |sum, row| async move { Ok(sum + i64::from(row.get::<i32>(0))) });
    println!("sum of what came back {}", sum.await?);
    Ok(())
}

async fn simple(client: &Client) -> anyhow::Result<()> {
    for message in
        client.simple_query("select 1 as a, null as b; create temp table t (); ;").await?
    {
        match message {
            SimpleQueryMessage::Row(row) => println!("row {:?} {:?}", row.get("a"), row.get("b")),
            SimpleQueryMessage::CommandComplete(count) => println!("complete {count}"),
            _ => println!("another message"),
        }
    }
    let failed = client.batch_execute("select 1; select 1 / 0; select 2").await;
    println!("{:?}", failed.err().as_ref().map(told));
    Ok(())
}

async fn notifications(client: &Client, said: &mut Said) -> anyhow::Result<()> {
    client
        .batch_execute("listen news; notify news, 'one'; notify news; set datestyle = iso")
        .await?;
    client.batch_execute("do $$ begin raise notice 'noticed %', 7; end $$").await?;
    client.execute("select pg_notify($1, $2)", &[&"news", &"wörds"]).await?;
    for _ in 0..4 {
        println!("{}", said.recv().await.context("the connection is gone")?);
    }
    Ok(())
}

async fn cancel(client: &Client, tls: &Tls) -> anyhow::Result<()> {
    let token = client.cancel_token();
    let sleeping = client.query_one("select pg_sleep(60)", &[]);
    let cancelling = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        token.cancel_query(tls.clone()).await
    };
    let (slept, cancelled) = future::join(sleeping, cancelling).await;
    println!("{:?} {:?}", slept.err().as_ref().map(told), cancelled.is_ok());
    println!("after it {}", client.query_one("select 6", &[]).await?.get::<_, i32>(0));
    Ok(())
}

/// A program that asks for TLS and cannot speak it.
async fn without_tls() -> anyhow::Result<()> {
    let refused = config()?.connect(NoTls).await;
    println!("{:?}", refused.err().map(|error| error.to_string()));
    Ok(())
}
