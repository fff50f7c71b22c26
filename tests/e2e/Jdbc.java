// What a Java application does with a database, in one file that `java` runs by itself.

import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;

public class Jdbc {
    static void check(boolean is, String what) {
        if (!is) {
            throw new AssertionError(what);
        }
        System.out.println("ok: " + what);
    }

    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.setProperty("user", "agent");
        properties.setProperty("password", arguments[1]);
        properties.setProperty("prepareThreshold", "2");
        try (Connection connection = DriverManager.getConnection(arguments[0], properties)) {
            try (Statement statement = connection.createStatement()) {
                statement.execute("create temp table j (a int, b text)");
            }
            insertInBatches(connection);
            prepareOnTheServer(connection);
            fetchByCursor(connection);
            readMetadata(connection);
            failAndGoOn(connection);
        }
        System.out.println("all done");
    }

    static void insertInBatches(Connection connection) throws SQLException {
        String sql = "insert into j values (?, ?)";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int n = 0; n < 300; n++) {
                statement.setInt(1, n);
                statement.setString(2, "row " + n);
                statement.addBatch();
            }
            check(statement.executeBatch().length == 300, "a batch of inserts");
        }
    }

    static void prepareOnTheServer(Connection connection) throws SQLException {
        String sql = "select b from j where a = ?";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            boolean isRight = true;
            for (int n = 0; n < 20; n++) {
                statement.setInt(1, n);
                try (ResultSet rows = statement.executeQuery()) {
                    isRight &= rows.next() && rows.getString(1).equals("row " + n);
                }
            }
            check(isRight, "a statement prepared on the server");
        }
    }

    static void fetchByCursor(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(25);
            int count = 0;
            try (ResultSet rows = statement.executeQuery("select a from j order by a")) {
                while (rows.next()) {
                    count++;
                }
            }
            check(count == 300, "rows fetched by a cursor");
        }
        connection.commit();
        connection.setAutoCommit(true);
    }

    static void readMetadata(Connection connection) throws SQLException {
        DatabaseMetaData metadata = connection.getMetaData();
        try (ResultSet columns = metadata.getColumns(null, null, "j", null)) {
            int count = 0;
            while (columns.next()) {
                count++;
            }
            check(count == 2, "metadata of a table");
        }
    }

    static void failAndGoOn(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute("select 1/0");
            check(false, "an error arrives");
        } catch (SQLException error) {
            check("22012".equals(error.getSQLState()), "an error arrives");
        }
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery("select 1")) {
            check(rows.next() && rows.getInt(1) == 1, "the session goes on");
        }
    }
}
