// What a Go application does with a database by way of pgx: prints what it saw, line by line.
// The connection is what PGHOST and so on say.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	return value
}

func code(err error) string {
	var known *pgconn.PgError
	if errors.As(err, &known) {
		return known.Code + " " + known.Message
	}
	return fmt.Sprint(err)
}

// Every way in which pgx runs a query.
func modes(ctx context.Context) {
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe,
		pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		config := must(pgx.ParseConfig(""))
		config.DefaultQueryExecMode = mode
		conn := must(pgx.ConnectConfig(ctx, config))
		var number int
		var word string
		var numbers []int32
		for range 3 {
			err := conn.QueryRow(ctx, "select $1::int, $2::text, array[1, 2, 3]", 7, "wörd").
				Scan(&number, &word, &numbers)
			fmt.Println(mode, number, word, numbers, err)
		}
		_, err := conn.Exec(ctx, "select 1 / $1::int", 0)
		fmt.Println(mode, code(err))
		conn.Close(ctx)
	}
}

func main() {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	modes(ctx)
	conn := must(pgx.Connect(ctx, ""))
	var process uint32
	must(0, conn.QueryRow(ctx, "select pg_backend_pid()").Scan(&process))
	fmt.Println("process", process == conn.PgConn().PID())

	must(conn.Exec(ctx, "create temp table n (id int primary key, word text, at timestamptz, data jsonb)"))
	rows := [][]any{}
	for id := range 1000 {
		rows = append(rows, []any{id, fmt.Sprint("word ", id), time.Unix(0, 0).UTC(), map[string]int{"n": id}})
	}
	fmt.Println("copied", must(conn.CopyFrom(ctx, pgx.Identifier{"n"},
		[]string{"id", "word", "at", "data"}, pgx.CopyFromRows(rows))))
	var out strings.Builder
	must(conn.PgConn().CopyTo(ctx, &out, "copy (select id, word from n where id < 3) to stdout"))
	fmt.Printf("%q\n", out.String())

	batch := &pgx.Batch{}
	for id := range 20 {
		batch.Queue("select word from n where id = $1", id)
	}
	batch.Queue("select 1 / $1::int", 0)
	batch.Queue("select 2")
	results := conn.SendBatch(ctx, batch)
	for range 22 {
		var word string
		fmt.Println("batch", word, code(results.QueryRow().Scan(&word)))
	}
	results.Close()

	tx := must(conn.Begin(ctx))
	nested := must(tx.Begin(ctx))
	_, err := nested.Exec(ctx, "insert into n (id) values (1)")
	fmt.Println("nested", code(err), nested.Rollback(ctx))
	var count int
	fmt.Println("after", tx.QueryRow(ctx, "select count(*) from n").Scan(&count), count, tx.Commit(ctx))

	objects := must(conn.Begin(ctx))
	large := objects.LargeObjects()
	oid := must(large.Create(ctx, 0))
	object := must(large.Open(ctx, oid, pgx.LargeObjectModeRead|pgx.LargeObjectModeWrite))
	fmt.Println("large", must(object.Write(make([]byte, 100_000))), must(object.Seek(0, 0)))
	fmt.Println("unlinked", large.Unlink(ctx, oid), objects.Rollback(ctx))

	must(conn.Exec(ctx, "listen news"))
	must(conn.Exec(ctx, "notify news, 'hello'"))
	heard := must(conn.WaitForNotification(ctx))
	fmt.Println("heard", heard.Channel, heard.Payload, heard.PID == conn.PgConn().PID())

	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	_, err = conn.Exec(short, "select pg_sleep(60)")
	cancel()
	fmt.Println("timed out", err != nil, conn.IsClosed())
	conn.Close(ctx)

	pool := must(pgxpool.New(ctx, ""))
	done := make(chan int)
	for n := range 20 {
		go func() {
			var seen int
			must(0, pool.QueryRow(ctx, "select $1::int", n).Scan(&seen))
			done <- seen
		}()
	}
	sum := 0
	for range 20 {
		sum += <-done
	}
	fmt.Println("pool", sum)
	pool.Close()
}
