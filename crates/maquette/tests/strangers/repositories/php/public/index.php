<?php

require '/var/www/db/connect.php';

$db = connect();
if (($_SERVER['REQUEST_METHOD'] ?? '') === 'POST') {
    $insert = $db->prepare('INSERT INTO note (body) VALUES (?)');
    $insert->execute([$_POST['body'] ?? '']);
}
$writable = is_writable('/var/www/uploads') ? 'yes' : 'no';
?>
<h1>Notes</h1>
<ul>
<?php foreach ($db->query('SELECT body FROM note ORDER BY id') as $note): ?>
  <li><?= htmlspecialchars($note['body']) ?></li>
<?php endforeach ?>
</ul>
<p>Uploads: <?= htmlspecialchars(trim(@file_get_contents('/var/www/uploads/README.txt'))) ?> Writable: <?= $writable ?></p>
